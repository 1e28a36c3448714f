"""Tests that `test_partitioning.py` runs in a process with eight devices."""

import dataclasses
import functools

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
from bert_jax.training import optimizer, partitioning
from bert_jax.training.optimizer import OptimizerConfig
from bert_jax.training.partitioning import MeshConfig
from bert_jax.training.state import TrainState
from bert_jax.types import Batch

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
  return partitioning.make_mesh(config, devices)


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


def step(state, batch):
  def objective(params):
    outputs = MODEL.apply({"params": params}, batch)
    return optax.softmax_cross_entropy_with_integer_labels(
      outputs.masked_lm, batch.targets["masked_ids"]
    ).mean()

  loss, gradient = jax.value_and_grad(objective)(state.params)
  updates, optimizer_state = OPTIMIZER.update(
    gradient, state.optimizer_state, state.params
  )
  return dataclasses.replace(
    state,
    step=state.step + 1,
    params=optax.apply_updates(state.params, updates),
    optimizer_state=optimizer_state,
  ), loss


@functools.cache
def train(config):
  """The states before and after two updates, and their losses."""
  mesh = make_mesh(config)
  first = partitioning.init_state(init, mesh)
  where = jax.tree.map(lambda leaf: leaf.sharding, first)
  update = jax.jit(step, out_shardings=(where, None))
  state, loss = update(first, partitioning.put_batch(batch(), mesh))
  state, last = update(state, partitioning.put_batch(batch(), mesh))
  return first, state, [float(loss), float(last)]


def test_there_are_eight_devices():
  assert jax.device_count() == 8


def test_initial_values_do_not_depend_on_the_mesh():
  (one, _, _), (many, _, _) = train(ONE), train(SPLIT)
  jax.tree.map(np.testing.assert_array_equal, many.params, one.params)
  np.testing.assert_array_equal(
    jax.random.key_data(many.key), jax.random.key_data(one.key)
  )


# With the word embedding's width split over `fsdp`, XLA (jax 0.10.1, CPU)
# computed wrong gradients, silently, on meshes that use all three axes.
def test_training_does_not_depend_on_the_mesh():
  (_, one, losses), (_, many, split_losses) = train(ONE), train(SPLIT)
  assert losses[1] < losses[0] - 0.1
  np.testing.assert_allclose(split_losses, losses, rtol=1e-5)
  for path, leaf in trees.flatten(many.params).items():
    np.testing.assert_allclose(
      leaf, trees.flatten(one.params)[path], atol=1e-4, err_msg=path
    )


def test_arrays_lie_where_the_table_says():
  state, _, _ = train(SPLIT)
  leaves = trees.flatten(state)
  table = "encoder/embeddings/word/embedding"
  kernel = "encoder/layer_0/attention/output/kernel"
  for prefix in ("params", "optimizer_state/1/0/mu", "optimizer_state/1/0/nu"):
    shards = leaves[f"{prefix}/{table}"].addressable_shards
    assert shards[0].data.shape == (16, 16)
    assert leaves[f"{prefix}/{kernel}"].sharding.spec == P("model", "fsdp")
  whole = leaves["params/encoder/layer_0/attention_norm/scale"]
  assert whole.addressable_shards[0].data.shape == (16,)
  assert leaves["step"].sharding.is_fully_replicated
  assert leaves["key"].sharding.is_fully_replicated


def test_rows_go_over_data_and_fsdp_in_order():
  mesh = make_mesh(SPLIT)
  rows = partitioning.put_batch(batch(), mesh)
  np.testing.assert_array_equal(rows.token_ids, batch().token_ids)
  assert rows.token_ids.addressable_shards[0].data.shape == (4, 8)
  assert partitioning.batch_devices(mesh) == 4


def test_rows_that_do_not_divide():
  with pytest.raises(UserError, match="6 rows do not divide over 4 devices"):
    partitioning.put_batch(batch(6), make_mesh(SPLIT))


@pytest.mark.parametrize(
  "config", [MeshConfig(3), MeshConfig(-1, 3), MeshConfig(-1, 4, 4)]
)
def test_a_mesh_that_does_not_fit(config):
  with pytest.raises(UserError, match=r"config.mesh: .* 8 devices"):
    partitioning.make_mesh(config)


def test_a_dimension_that_does_not_divide():
  mesh = make_mesh(MeshConfig(1, 1, 8))
  params = {"masked_lm": {"bias": jax.ShapeDtypeStruct((30522,), jnp.float32)}}
  with pytest.raises(
    UserError, match=r"masked_lm/bias: a dimension of 30522 .* 8 devices"
  ):
    partitioning.shardings(mesh, params)
