"""Tests that `test_partitioning.py` runs in a process with eight devices."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec as P

from bert_jax import trees
from bert_jax.models.config import EncoderConfig
from bert_jax.models.heads import PretrainingModel
from bert_jax.settings import UserError
from bert_jax.training import meshes, optimizer, partitioning
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.meshes import MeshConfig
from bert_jax.training.optimizer import OptimizerConfig
from bert_jax.training.saved_params import restore_params
from bert_jax.training.state import TrainState
from bert_jax.types import Batch
from tests.training import mesh_steps

ONE = MeshConfig(data=1)
SPLIT = MeshConfig(data=2, fsdp=2, model=2)
MODEL = PretrainingModel(
  EncoderConfig(
    vocab_size=64,
    hidden_size=16,
    num_layers=1,
    num_heads=4,
    intermediate_size=32,
    max_positions=8,
  )
)
OPTIMIZER = optimizer.make(OptimizerConfig("lamb", learning_rate=0.1), 10)


def make_mesh(config):
  devices = jax.devices()[: 1 if config is ONE else 8]
  return meshes.make_mesh(config, devices)


def init():
  params = MODEL.init(jax.random.key(1), batch(1))["params"]
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    optimizer_state=OPTIMIZER.init(params),
    key=jax.random.key(2, impl="rbg"),
  )


def batch(rows=16):
  rng = np.random.default_rng(0)
  return Batch(
    token_ids=rng.integers(0, 64, (rows, 8), np.int32),
    segment_ids=np.zeros((rows, 8), np.int32),
    position_ids=np.tile(np.arange(8, dtype=np.int32), (rows, 1)),
    sequence_ids=np.ones((rows, 8), np.int32),
    targets={
      "masked_positions": rng.integers(0, 8, (rows, 2), np.int32),
      "masked_ids": rng.integers(0, 64, (rows, 2), np.int32),
    },
  )


@jax.jit
def step(params, batch):
  """The loss, and the parameters after a plain step down its gradient."""

  def objective(params):
    outputs = MODEL.apply({"params": params}, batch)
    return optax.softmax_cross_entropy_with_integer_labels(
      outputs.masked_lm, batch.targets["masked_ids"]
    ).mean()

  loss, gradient = jax.value_and_grad(objective)(params)
  return loss, jax.tree.map(lambda p, g: p - g, params, gradient)


def test_there_are_eight_devices():
  assert jax.device_count() == 8


def test_initial_values_do_not_depend_on_the_mesh():
  def init():
    key = jax.random.key(3)
    params = {"pooler": {"dense": {"kernel": jax.random.normal(key, (64, 32))}}}
    return TrainState(jnp.int32(0), params, (), key)

  one = partitioning.init_state(init, partitioning.Layout(make_mesh(ONE)))
  split = partitioning.init_state(init, partitioning.Layout(make_mesh(SPLIT)))
  kernel = split.params["pooler"]["dense"]["kernel"]
  assert kernel.addressable_shards[0].data.shape == (32, 16)
  np.testing.assert_array_equal(kernel, one.params["pooler"]["dense"]["kernel"])


@pytest.mark.parametrize(
  "config",
  [
    MeshConfig(shard_optimizer=True),
    MeshConfig(1, 8, 1),
    MeshConfig(1, 1, -1),
    MeshConfig(2, 2, 2),
  ],
  ids=str,
)
def test_an_update_is_that_of_one_device(config):
  mesh_steps.assert_as_on_one_device(config)


def test_the_optimizer_is_split_over_data_where_it_is_asked_for():
  layout = partitioning.make_layout(MeshConfig(2, 2, 2, shard_optimizer=True))
  leaves = trees.flatten(partitioning.state_shapes(init, layout))
  for name, plain, split in (
    (
      "word/embedding",
      P(("model", "fsdp")),
      P(("model", "fsdp", "data"), None),
    ),
    ("position/embedding", P(), P("data", None)),
  ):
    path = f"encoder/embeddings/{name}"
    assert leaves[f"params/{path}"].sharding.spec == plain
    assert leaves[f"optimizer_state/1/0/mu/{path}"].sharding.spec == split


# With the word embedding's width split over `fsdp`, XLA (jax 0.10.1, CPU)
# computed wrong gradients, silently, on meshes that use all three axes.
def test_a_step_does_not_depend_on_the_mesh():
  start = partitioning.init_state(
    init, partitioning.Layout(make_mesh(SPLIT))
  ).params
  found = {}
  for config in (ONE, SPLIT):
    mesh = make_mesh(config)
    params = jax.device_put(
      start, partitioning.shardings(partitioning.Layout(mesh), start)
    )
    loss, after = step(params, meshes.put_batch(batch(), mesh))
    found[config] = {"loss": loss} | trees.flatten(after)
  for path, leaf in found[SPLIT].items():
    np.testing.assert_allclose(leaf, found[ONE][path], atol=1e-6, err_msg=path)


def test_arrays_lie_where_the_table_says():
  leaves = trees.flatten(
    partitioning.state_shapes(init, partitioning.Layout(make_mesh(SPLIT)))
  )
  for prefix in ("params", "optimizer_state/1/0/mu", "optimizer_state/1/0/nu"):
    for path, spec in {
      "encoder/embeddings/word/embedding": P(("model", "fsdp")),
      "encoder/layer_0/attention/output/kernel": P("model", "fsdp"),
      "encoder/layer_0/attention_norm/scale": P(),
    }.items():
      assert leaves[f"{prefix}/{path}"].sharding.spec == spec
  for path in ("step", "key", "optimizer_state/1/0/count"):
    assert leaves[path].sharding.is_fully_replicated


def test_rows_go_over_data_and_fsdp_in_order():
  mesh = make_mesh(SPLIT)
  rows = meshes.put_batch(batch(), mesh)
  np.testing.assert_array_equal(rows.token_ids, batch().token_ids)
  assert rows.token_ids.addressable_shards[0].data.shape == (4, 8)
  assert meshes.batch_devices(mesh) == 4


def test_rows_that_do_not_divide():
  with pytest.raises(UserError, match="6 rows do not divide over 4 devices"):
    meshes.put_batch(batch(6), make_mesh(SPLIT))


@pytest.mark.parametrize(
  "config",
  [MeshConfig(3), MeshConfig(-1, 3), MeshConfig(-1, 4, 4), MeshConfig(1, 2, 2)],
)
def test_a_mesh_that_does_not_fit(config):
  with pytest.raises(UserError, match=r"config.mesh: .* 8 devices"):
    meshes.make_mesh(config)


def test_a_dimension_that_does_not_divide():
  mesh = make_mesh(MeshConfig(1, 1, 8))
  params = {"masked_lm": {"bias": jax.ShapeDtypeStruct((30522,), jnp.float32)}}
  with pytest.raises(
    UserError,
    match=r"masked_lm/bias: a dimension of 30522 .* 8 devices.*vocab_multiple",
  ):
    partitioning.shardings(partitioning.Layout(mesh), params)


def test_a_checkpoint_goes_from_mesh_to_mesh(tmp_path):
  saved = partitioning.init_state(init, partitioning.Layout(make_mesh(SPLIT)))
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(saved, {})
    for config in (SPLIT, MeshConfig(), MeshConfig(1, 8, 1)):
      target = partitioning.state_shapes(
        init, partitioning.Layout(make_mesh(config))
      )
      state, _ = checkpoints.restore(target)
      wanted = trees.flatten(target)
      for path, leaf in trees.flatten(state).items():
        assert leaf.sharding.is_equivalent_to(wanted[path].sharding, leaf.ndim)
      jax.tree.map(np.testing.assert_array_equal, state.params, saved.params)
      np.testing.assert_array_equal(
        jax.random.key_data(state.key), jax.random.key_data(saved.key)
      )
  shapes = jax.eval_shape(lambda: saved.params)
  params = restore_params(tmp_path, shapes)
  jax.tree.map(np.testing.assert_array_equal, params, saved.params)
  assert params["pooler"]["dense"]["kernel"].devices() == {jax.devices()[0]}
