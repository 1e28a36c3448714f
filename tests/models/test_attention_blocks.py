"""Attention of long rows in blocks: the same as all at once, in less memory."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.models import attention
from bert_jax.models.attention import blocks, xla
from bert_jax.models.config import EncoderConfig
from bert_jax.models.encoder import Encoder
from bert_jax.types import Batch

LENGTH = 301
# A prefix language model with masked copies, whose positions are not places.
STAGES = np.array([0] * 50 + [*range(1, 151)] + [-n for n in range(1, 102)])
POSITIONS = np.array([*range(200), *range(50, 151)])


def packed_rows():
  """A row of three sequences with padding, and a row of padding alone."""
  ids = np.zeros((2, LENGTH), np.int32)
  for number, (begin, end) in enumerate([(0, 130), (130, 133), (133, 290)]):
    ids[0, begin:end] = number + 1
  return attention.Tokens(ids, position_ids=np.zeros_like(ids))


def staged_rows():
  ids = np.ones((2, LENGTH), np.int32)
  rows = (np.broadcast_to(x, ids.shape) for x in (STAGES, POSITIONS))
  return attention.Tokens(ids, *rows)


def outputs_and_gradients(attend, tokens, window, broadcast):
  rng = np.random.default_rng(0)
  shape = (*tokens.sequence_ids.shape, 2, 8)
  x = jnp.asarray(rng.normal(size=(3, *shape)), jnp.float32)
  mix = rng.normal(size=shape) * (tokens.sequence_ids > 0)[..., None, None]
  dropout = None
  if broadcast:
    dropout = attention.Dropout(0.3, jax.random.key(1), broadcast)

  @functools.partial(jax.grad, has_aux=True)
  def mixed(x):
    out = attend(*x, tokens, window, dropout=dropout)
    return (out * mix).sum(), out

  gradients, out = jax.jit(mixed)(x)
  return np.asarray(out), np.asarray(gradients)


@pytest.mark.parametrize(
  ("tokens", "window", "broadcast"),
  [
    (packed_rows(), 0, None),
    (packed_rows(), 40, None),
    (packed_rows(), 200, "rows"),
    (packed_rows(), 41, "none"),
    (staged_rows(), 0, "none"),
    (staged_rows(), 20, None),
  ],
  ids=["global", "local", "wide", "dropout", "stages", "local_stages"],
)
def test_blocks_equal_all_at_once(tokens, window, broadcast):
  found = outputs_and_gradients(blocks.attend, tokens, window, broadcast)
  wanted = outputs_and_gradients(xla.attend, tokens, window, broadcast)
  for one, other in zip(found, wanted):
    np.testing.assert_allclose(one, other, atol=1e-6, rtol=1e-6)


# A local layer and, as the first, one that is not.
MODERNBERT = EncoderConfig(
  vocab_size=50,
  hidden_size=16,
  num_layers=2,
  num_heads=4,
  intermediate_size=24,
  max_positions=8192,
  num_segments=0,
  pre_norm=True,
  rotary_base=100.0,
  local_rotary_base=10.0,
  local_window=16,
  global_every=2,
  attention="xla",
)


def module_and_params():
  module = Encoder(MODERNBERT)
  batch = Batch.from_ids(np.ones((1, 4), np.int32))
  return module, jax.jit(module.init)(jax.random.key(0), batch)


def test_training_on_long_rows_has_no_array_of_all_pairs_of_tokens():
  module, params = module_and_params()
  length = 4096
  batch = Batch.from_ids(np.ones((1, length), np.int32))

  def loss(params, batch, key):
    return module.apply(params, batch, False, rngs={"dropout": key}).sum()

  gradient = jax.jit(jax.grad(loss))
  compiled = gradient.lower(params, batch, jax.random.key(0)).compile()
  weights_of_a_head = 4 * length**2
  assert compiled.memory_analysis().temp_size_in_bytes < weights_of_a_head


def test_a_program_of_any_length_equals_that_of_a_long_row():
  """A length that is not known is not taken in blocks."""
  module, params = module_and_params()
  ids = np.random.default_rng(0).integers(1, 50, (1, 600), np.int32)

  def encode(params, ids):
    ones = jnp.ones_like(ids)
    place = jnp.cumsum(ones, axis=1) - 1
    return module.apply(params, Batch(ids, 0 * ids, place, ones))

  shape = jax.export.symbolic_shape("rows, length")
  exported = jax.export.export(jax.jit(encode))(
    params, jax.ShapeDtypeStruct(shape, ids.dtype)
  )
  in_blocks = jax.jit(encode)(params, ids)
  np.testing.assert_allclose(exported.call(params, ids), in_blocks, atol=2e-6)
