import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bert_jax import trees
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.training.optim import optimizer
from bert_jax.training.optim.optimizer import OptimizerConfig
from bert_jax.training.optim.schedules import ScheduleConfig
from bert_jax.types import TrainState
from tests.training import reference

EVERY_OPTIMIZER = pytest.mark.parametrize("name", sorted(optimizer.OPTIMIZERS))
CONSTANT = ScheduleConfig("constant")


def test_learning_rates_fall_from_the_heads_to_the_embeddings():
  params = trees.unflatten(
    {
      path: jnp.zeros(())
      for path in (
        "encoder/embeddings/word/embedding",
        "encoder/embeddings/projection/kernel",
        "encoder/layer_0/attention/query/kernel",
        "encoder/layer_10/attention_norm/scale",
        "encoder/layer_11/attention_norm/scale",
        "encoder/final_norm/scale",
        "pooler/dense/kernel",
        "layer_3/classifier/bias",
      )
    }
  )
  assert trees.flatten(optimizer.layer_scales(params, 0.5)) == {
    "encoder/embeddings/word/embedding": 0.5**13,
    "encoder/embeddings/projection/kernel": 0.5**13,
    "encoder/layer_0/attention/query/kernel": 0.5**12,
    "encoder/layer_10/attention_norm/scale": 0.25,
    "encoder/layer_11/attention_norm/scale": 0.5,
    "encoder/final_norm/scale": 0.5,
    "pooler/dense/kernel": 1.0,
    "layer_3/classifier/bias": 1.0,  # A task may have this name.
  }
  shared = {"encoder": {"embeddings": {"a": 0.0}, "layer_0": {"b": 0.0}}}
  assert trees.flatten(optimizer.layer_scales(shared, 0.5)) == {
    "encoder/embeddings/a": 0.25,
    "encoder/layer_0/b": 0.5,
  }


def _one_update(config, params, gradients, start=None, frozen=None):
  tx = optimizer.make(config, 10, frozen)
  state = tx.init(params if start is None else start)
  return jax.jit(tx.update)(gradients, state, params)[0]


@EVERY_OPTIMIZER
def test_an_update_is_scaled_by_its_layer(name):
  params, gradients = (
    trees.unflatten(reference.params()),
    trees.unflatten(reference.params(seed=1)),
  )
  plain = OptimizerConfig(name, 0.1, CONSTANT)
  scaled = dataclasses.replace(plain, layer_decay=0.7)
  scales = trees.flatten(optimizer.layer_scales(params, 0.7))
  assert len(set(scales.values())) > 2
  before = trees.flatten(_one_update(plain, params, gradients))
  for path, got in trees.flatten(
    _one_update(scaled, params, gradients)
  ).items():
    np.testing.assert_allclose(got, scales[path] * before[path], rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "bert_adam"])
def test_the_encoder_is_pulled_to_its_start_and_heads_to_zero(name):
  plain = OptimizerConfig(name, 0.1, CONSTANT, weight_decay=0.0)
  pulled = dataclasses.replace(plain, weight_decay=0.3, l2_to_start=0.2)
  start, now = reference.params(seed=1), reference.params(seed=2)
  gradients = trees.unflatten(reference.params(seed=3))
  before = trees.flatten(_one_update(plain, trees.unflatten(now), gradients))
  got = _one_update(
    pulled, trees.unflatten(now), gradients, trees.unflatten(start)
  )
  for path, update in trees.flatten(got).items():
    if path.startswith("encoder/"):
      pull = 0.2 * (now[path] - start[path])
    else:
      pull = 0.3 * now[path] * reference.DECAYED[path]
    np.testing.assert_allclose(
      update, before[path] - 0.1 * pull, atol=1e-6, err_msg=path
    )


@pytest.mark.parametrize(
  ("name", "clocked"), [("adamw", False), ("lamb", True)]
)
def test_l1_ends_an_update_with_soft_thresholding(name, clocked):
  plain = OptimizerConfig(
    name, 0.1, ScheduleConfig("linear"), weight_decay=0.1, layer_decay=0.5
  )
  params = trees.unflatten(reference.params())
  gradients = trees.unflatten(reference.params(seed=1))

  def second_update(config):
    """At the learning rate 0.1 * 9 / 10."""
    tx = optimizer.make(config, 10, clocked=clocked)
    state = tx.init(params)
    for step in range(2):
      clock = {"clock": jnp.asarray(step)} if clocked else {}
      updates, state = tx.update(gradients, state, params, **clock)
    return trees.flatten(optax.apply_updates(params, updates))

  before = second_update(plain)
  after = second_update(dataclasses.replace(plain, l1=4.0))
  scales = trees.flatten(optimizer.layer_scales(params, 0.5))
  for path, decays in reference.DECAYED.items():
    limit = 0.09 * 4.0 * scales[path] * decays
    size = np.maximum(np.abs(before[path]) - limit, 0)
    np.testing.assert_allclose(
      after[path], np.sign(before[path]) * size, atol=1e-6, err_msg=path
    )
  zeros = {path: float((leaf == 0).mean()) for path, leaf in after.items()}
  assert max(zeros.values()) > 0.2
  assert not any(zeros[path] for path, d in reference.DECAYED.items() if not d)


def test_only_a_pull_costs_a_copy_and_only_of_the_encoder():
  params = trees.unflatten(reference.params())

  def copies(**options):
    state = optimizer.make(OptimizerConfig(**options), 10).init(params)
    return {
      path.split("start/")[1]
      for path in trees.flatten(state)
      if "start/" in path
    }

  assert copies() == set()
  encoder = {p for p in reference.params() if p.startswith("encoder/")}
  assert copies(l2_to_start=0.1) == encoder


def test_start_values_survive_that_state_and_parameters_are_donated():
  params = jax.tree.map(jnp.asarray, trees.unflatten(reference.params()))
  tx = optimizer.make(OptimizerConfig("adamw", 0.1, l2_to_start=0.1), 10)
  state = jax.jit(tx.init)(params)

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, state):
    updates, state = tx.update(params, state, params)
    return optax.apply_updates(params, updates), state

  for _ in range(3):
    params, state = step(params, state)
  kept = trees.flatten(state)
  (path,) = (p for p in kept if p.endswith("start/" + QUERY))
  np.testing.assert_array_equal(kept[path], reference.params()[QUERY])


QUERY = "encoder/layer_0/attention/query/kernel"


def _lowest_frozen(params):
  return trees.map_with_path(
    lambda path, _: path.startswith(("encoder/emb", "encoder/layer_0")), params
  )


@pytest.mark.parametrize(
  ("name", "dtype"),
  [("adamw", "float32"), ("bert_adam", "bfloat16"), ("lamb", "float32")],
)
def test_frozen_parameters_keep_every_bit(name, dtype):
  flat = reference.params()
  flat[QUERY][0] = [-0.0, 1e-40, np.nan]
  params = jax.tree.map(lambda x: jnp.asarray(x, dtype), trees.unflatten(flat))
  frozen = _lowest_frozen(params)
  gradients = {path: np.ones_like(leaf) for path, leaf in flat.items()}
  config = OptimizerConfig(name, 0.1, l2_to_start=0.1, layer_decay=0.9)
  tx = optimizer.make(config, 3, frozen)

  @jax.jit
  def step(params, state):
    updates, state = tx.update(trees.unflatten(gradients), state, params)
    return optax.apply_updates(params, updates), state

  state, now = tx.init(params), params
  for _ in range(2):
    now, state = step(now, state)
  before, stays = trees.flatten(params), trees.flatten(frozen)
  assert 0 < sum(stays.values()) < len(stays)
  for path, leaf in trees.flatten(now).items():
    same = np.asarray(leaf).tobytes() == np.asarray(before[path]).tobytes()
    assert same == stays[path], path
  held = trees.flatten(state)
  for path in stays:
    holds = any(name.endswith(path) for name in held)
    assert holds != stays[path], path


@EVERY_OPTIMIZER
def test_the_rest_trains_as_if_what_is_frozen_were_not_there(name):
  config = OptimizerConfig(
    name, 0.1, CONSTANT, clip_norm=0.5, layer_decay=0.5, l2_to_start=0.1
  )
  flat, gradients = reference.params(), reference.params(seed=1)
  gradients[QUERY] *= 1e6  # Must not count for clipping.
  frozen = _lowest_frozen(trees.unflatten(flat))
  trained = [p for p, stays in trees.flatten(frozen).items() if not stays]
  rest, rest_gradients = (
    trees.unflatten({path: tree[path] for path in trained})
    for tree in (flat, gradients)
  )
  wanted = trees.flatten(_one_update(config, rest, rest_gradients))
  got = _one_update(
    config, trees.unflatten(flat), trees.unflatten(gradients), frozen=frozen
  )
  got = trees.flatten(got)
  for path in trained:
    np.testing.assert_allclose(got[path], wanted[path], rtol=1e-6)


def test_nothing_frozen_leaves_the_state_as_it_was():
  params = trees.unflatten(reference.params())
  nothing = jax.tree.map(lambda _: False, params)
  config = OptimizerConfig()
  plain = optimizer.make(config, 3).init(params)
  other = optimizer.make(config, 3, nothing).init(params)
  assert jax.tree.structure(plain) == jax.tree.structure(other)


def test_every_part_of_the_state_has_a_place_on_a_mesh():
  params = {
    "encoder": {
      "embeddings": {"norm": {"scale": jnp.ones(8)}},
      "layer_0": {"attention_norm": {"scale": jnp.ones(8)}},
    },
    "sst2": {"classifier": {"kernel": jnp.ones((8, 2))}},
  }
  config = OptimizerConfig(l2_to_start=0.1, layer_decay=0.9)
  tx = optimizer.make(config, 3, _lowest_frozen(params))

  def init():
    return TrainState(jnp.int32(0), params, tx.init(params), jax.random.key(0))

  mesh = meshes.make_mesh(meshes.MeshConfig(), jax.devices()[:1])
  state = partitioning.state_shapes(init, partitioning.Layout(mesh))
  specs = {leaf.sharding.spec for leaf in jax.tree.leaves(state)}
  assert specs == {jax.P(), jax.P("fsdp", None)}
