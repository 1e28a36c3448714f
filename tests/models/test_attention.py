"""Attention backends, compared with NumPy, and the calls that they refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.models import attention
from bert_jax.models.attention import devices
from bert_jax.models.attention.devices import Device
from tests.errors import user_error

H100 = Device("gpu", "NVIDIA H100 80GB HBM3")
V5E = Device("tpu", "TPU v5 lite")
HEADS, DEPTH = 2, 64
# The lengths of the sequences of each row, and the length of the rows.
PADDED = (((11,), (5,)), 11)
PACKED = (((4, 7, 3), (9, 2)), 15)
TOLERANCE = {"float32": 1e-5, "bfloat16": 2e-2}


@pytest.fixture(params=sorted(attention.BACKENDS))
def attend(request, monkeypatch):
  """Attention by each backend, on a CPU."""
  if request.param == "cudnn":
    _stand_in_for_cudnn(monkeypatch)
  return functools.partial(attention.attention, backend=request.param)


def _stand_in_for_cudnn(monkeypatch):
  """Replaces the kernels of cuDNN by operations of XLA."""
  public = jax.nn.dot_product_attention

  def asked(query, key, value, *, mask, implementation):
    assert implementation == "cudnn"
    assert query.dtype == jnp.bfloat16 and query.shape[1] % 2 == 0
    return public(query, key, value, mask=mask, implementation="xla")

  monkeypatch.setattr(jax.nn, "dot_product_attention", asked)
  monkeypatch.setattr(devices, "current", lambda: H100)


def rows(shape, dtype):
  """Queries, keys and values [3, rows, length, heads, depth]; sequence ids."""
  sequences, length = shape
  ids = np.zeros((len(sequences), length), np.int32)
  for row, lengths in zip(ids, sequences):
    told = np.repeat(1 + np.arange(len(lengths)), lengths)
    row[: len(told)] = told
  rng = np.random.default_rng(0)
  made = rng.normal(size=(3, *ids.shape, HEADS, DEPTH))
  return jnp.asarray(made, dtype), ids


def cotangents(ids):
  mix = np.random.default_rng(1).normal(size=(*ids.shape, HEADS, DEPTH))
  return mix * (ids > 0)[..., None, None]


def alone(x, ids, window):
  """Attention of each sequence alone, with gradients, in float64.

  Returns:
    The outputs, 0 on padding, and the gradients for `cotangents`.
  """
  x, mix = np.float64(x), cotangents(ids)
  out, gradients = np.zeros(x.shape[1:]), np.zeros(x.shape)
  for row, number in {*zip(np.nonzero(ids)[0], ids[ids > 0])}:
    (places,) = np.nonzero(ids[row] == number)
    far = abs(places[:, None] - places) > window // 2
    for head in range(HEADS):
      at = (row, places, head)
      query, key, value = (part[at] for part in x)
      scores = query @ key.T / DEPTH**0.5
      weights = np.exp(np.where(far, -np.inf, scores) if window else scores)
      weights /= weights.sum(-1, keepdims=True)
      out[at] = weights @ value
      by_weight = mix[at] @ value.T
      by_score = by_weight - (by_weight * weights).sum(-1, keepdims=True)
      by_score *= weights / DEPTH**0.5
      gradients[0][at] = by_score @ key
      gradients[1][at] = by_score.T @ query
      gradients[2][at] = weights.T @ mix[at]
  return out, gradients


def with_gradients(attend, ids):
  """A function that computes the same by a backend."""
  mix = jnp.float32(cotangents(ids))

  def mixed(x):
    out = attend(*x, attention.Tokens(ids)).astype(jnp.float32)
    return (out * mix).sum(), out

  def found(x):
    gradients, out = gradient(x)
    return np.asarray(out), np.asarray(gradients, np.float32)

  gradient = jax.jit(jax.grad(mixed, has_aux=True))
  return found


def assert_as_alone(attend, x, ids, window, tolerance):
  out, gradients = with_gradients(
    functools.partial(attend, window=window), ids
  )(x)
  wanted, wanted_gradients = alone(x, ids, window)
  np.testing.assert_allclose(out[ids > 0], wanted[ids > 0], atol=tolerance)
  np.testing.assert_allclose(gradients, wanted_gradients, atol=tolerance)


@pytest.mark.parametrize(
  ("shape", "window", "dtype"),
  [(PADDED, 0, "float32"), (PACKED, 0, "bfloat16"), (PACKED, 4, "float32")],
  ids=["padded", "packed", "window"],
)
def test_backends_equal_the_numpy_reference(attend, shape, window, dtype):
  if attend.keywords["backend"] == "cudnn":
    dtype = "bfloat16"
  x, ids = rows(shape, dtype)
  assert_as_alone(attend, x, ids, window, TOLERANCE[dtype])


def test_padding_changes_nothing_and_stays_finite(attend):
  x, ids = rows(PADDED, "bfloat16")
  ids[1] = 0  # A row that is all padding, as the last of a batch may be.
  is_padding = (ids == 0)[..., None, None]
  changed = jnp.where(is_padding, 100.0, x).astype(x.dtype)
  found = with_gradients(attend, ids)
  (out, gradients), (other, others) = found(x), found(changed)
  np.testing.assert_array_equal(out[ids > 0], other[ids > 0])
  np.testing.assert_array_equal(gradients, others)
  assert np.isfinite(other).all()
  assert not gradients[:, ids == 0].any()


def test_splash_with_several_blocks():
  x, ids = rows((((300, 280), (200, 100)), 640), "float32")
  splash = functools.partial(attention.attention, backend="splash")
  assert_as_alone(splash, x, ids, 64, 1e-5)


def staged():
  """A prefix language model in each sequence, with masked copies at the end."""
  stages = np.array([0, 0, 0, 1, 2, 3, 0, 0, 1, 2, 3, -1, -3, 0, 0])
  positions = np.array([0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 2, 4, 0, 0])
  sequences = np.array([1] * 6 + [2] * 7 + [0] * 2, np.int32)
  rows = (sequences, stages, positions)
  return attention.Tokens(*(np.stack([x, x]) for x in rows))


@pytest.mark.parametrize("window", [0, 4])
@pytest.mark.parametrize("backend", ["short", "cudnn"])
def test_kernels_have_stages(backend, window, monkeypatch):
  dtype = {"short": "float32", "cudnn": "bfloat16"}[backend]
  if backend == "cudnn":
    _stand_in_for_cudnn(monkeypatch)
  x, ids = rows((((13,), (13,)), 15), dtype)
  tokens = staged()
  dropout = attention.Dropout(0.25, jax.random.key(3), "queries")

  def found(backend):
    def attend(query, key, value, _):
      return attention.attention(
        query,
        key,
        value,
        tokens,
        window=window,
        backend=backend,
        dropout=dropout,
      )

    return with_gradients(attend, ids)(x)

  (out, gradients), (wanted, wanted_gradients) = found(backend), found("xla")
  used, tolerance = ids > 0, 2 * TOLERANCE[dtype]
  np.testing.assert_allclose(out[used], wanted[used], atol=tolerance)
  np.testing.assert_allclose(gradients, wanted_gradients, atol=tolerance)


def dropped(attend, broadcast, length=64, rate=0.25):
  """The weights, scaled so that they are 1 without dropout."""
  zeros = jnp.zeros((3, length, 2, length), jnp.bfloat16)
  value = zeros + jnp.eye(length, dtype=zeros.dtype)[:, None]
  ids = np.ones((3, length), np.int32)
  dropout = attention.Dropout(rate, jax.random.key(0), broadcast)
  weights = attend(zeros, zeros, value, attention.Tokens(ids), dropout=dropout)
  return np.asarray(weights.swapaxes(1, 2), np.float64) * length


def test_dropout_broadcast_over_queries(attend):
  weights = dropped(attend, "queries")
  np.testing.assert_array_equal(weights, weights[:, :, :1] + 0 * weights)
  keys = weights[:, :, 0]
  np.testing.assert_allclose(keys[keys > 0], 4 / 3, rtol=0.01)
  assert 0.15 < (keys == 0).mean() < 0.35
  assert len(np.unique(keys.reshape(6, -1), axis=0)) == 6


@pytest.mark.parametrize(
  ("broadcast", "masks"), [("none", 6), ("rows", 1), ("queries", 6)]
)
def test_dropout_keeps_the_mean(broadcast, masks):
  attend = functools.partial(attention.attention, backend="xla")
  weights = dropped(attend, broadcast)
  assert 0.15 < (weights == 0).mean() < 0.35
  np.testing.assert_allclose(weights.mean(), 1, atol=0.1)
  by_head = weights.reshape(6, -1)
  assert len(np.unique(by_head, axis=0)) == masks
  one_query = len(np.unique(weights[0, 0], axis=0)) == 1
  assert one_query == (broadcast == "queries")


@pytest.mark.parametrize(
  ("broadcast", "shape", "dtype"),
  [("rows", PADDED, "float32"), ("none", PACKED, "bfloat16")],
)
def test_dropout_of_short_equals_that_of_xla(broadcast, shape, dtype):
  x, ids = rows(shape, dtype)
  dropout = attention.Dropout(0.25, jax.random.key(3), broadcast)

  def found(backend):
    attend = functools.partial(
      attention.attention, window=8, backend=backend, dropout=dropout
    )
    return with_gradients(attend, ids)(x)

  out, gradients = found("short")
  wanted, wanted_gradients = found("xla")
  tolerance = 2 * TOLERANCE[dtype]
  np.testing.assert_allclose(out[ids > 0], wanted[ids > 0], atol=tolerance)
  np.testing.assert_allclose(gradients, wanted_gradients, atol=tolerance)
  # Another mask would be noticed.
  undropped, _ = alone(x, ids, 8)
  assert abs(out - undropped)[ids > 0].max() > 10 * tolerance


@pytest.mark.parametrize("broadcast", ["none", "rows"])
@pytest.mark.parametrize("backend", ["cudnn", "splash"])
def test_kernels_refuse_dropout_that_they_lack(backend, broadcast, monkeypatch):
  if backend == "cudnn":
    _stand_in_for_cudnn(monkeypatch)
  attend = functools.partial(attention.attention, backend=backend)
  with user_error("attention_dropout_broadcast to queries"):
    dropped(attend, broadcast)


@pytest.mark.parametrize(
  ("device", "platform", "kernel"),
  [
    (V5E, "tpu", "tpu_custom_call"),
    (H100, "cuda", "__cudnn$fmhaScaleBiasSoftmaxBackward"),
  ],
)
def test_attention_is_lowered_for_the_devices_of_the_mesh(
  device, platform, kernel, monkeypatch
):
  monkeypatch.setattr(
    "jax._src.cudnn.fused_attention_stablehlo.check_cudnn_version",
    lambda: 91000,
  )
  mesh = jax.sharding.AbstractMesh(
    (1, 1, 1),
    ("data", "fsdp", "model"),
    axis_types=(jax.sharding.AxisType.Auto,) * 3,
    abstract_device=jax.sharding.AbstractDevice(
      device_kind=device.kind, num_cores=1, platform=device.platform
    ),
  )
  x, ids = rows((((384,),), 384), "bfloat16")

  def mixed(x):
    return (
      attention.attention(*x, attention.Tokens(ids)).astype(jnp.float32).sum()
    )

  with jax.sharding.use_abstract_mesh(mesh):
    assert devices.current() == device
    traced = jax.jit(jax.grad(mixed)).trace(x)
    assert kernel in traced.lower(lowering_platforms=(platform,)).as_text()


def test_a_backend_refuses_another_device():
  x, ids = rows(PADDED, "bfloat16")
  with user_error(r"config.model.attention: cudnn needs"):
    attention.attention(*x, attention.Tokens(ids), backend="cudnn")


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs a GPU")
@pytest.mark.parametrize("window", [0, 64])
@pytest.mark.parametrize("length", [127, 512])
def test_cudnn_on_a_gpu(length, window):
  x, ids = rows((((length // 2, length // 3), (length,)), length), "bfloat16")
  cudnn = functools.partial(attention.attention, backend="cudnn")
  assert_as_alone(cudnn, x, ids, window, 3e-2)
