import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bert_jax import settings, trees
from bert_jax.training.optim import optimizer
from bert_jax.training.optim.optimizer import OptimizerConfig
from bert_jax.training.optim.schedules import ScheduleConfig
from tests.errors import user_error
from tests.training import reference

STEPS = 6


def _params(seed=0, scale=0.5):
  """Leaves of every kind, one of them all zeros."""
  flat = reference.params(seed, scale)
  flat["pooler/dense/kernel"] *= 0
  return flat


_nested = trees.unflatten


def _train(config, params, gradients):
  tx = optimizer.make(config, len(gradients))
  state = tx.init(params)

  @jax.jit
  def step(params, state, gradients):
    updates, state = tx.update(gradients, state, params)
    return optax.apply_updates(params, updates), state

  for gradient in gradients:
    params, state = step(params, state, gradient)
  return params, state


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("clip_norm", [None, 0.0, 1.0, 1e6])
@pytest.mark.parametrize("name", sorted(optimizer.OPTIMIZERS))
def test_every_optimizer_equals_its_paper(name, clip_norm, weight_decay):
  numbers = {
    "b1": 0.8,
    "b2": 0.95,
    "eps": 1e-3,
    "weight_decay": weight_decay,
    "clip_norm": clip_norm,
  }
  config = OptimizerConfig(
    name,
    learning_rate=0.05,
    schedule=ScheduleConfig("linear", warmup_steps=2),
    **numbers,
  )
  start = _params()
  gradients = [_params(seed=10 + i, scale=2.0**i) for i in range(STEPS)]
  # A parameter without any gradient, as an unused head has.
  for gradient in gradients:
    gradient["encoder/layer_1/attention/query/kernel"] *= 0
  rates = [
    reference.rate(
      "linear", i, 0.05, STEPS, 2, from_start=True, end=0.0, power=1.0
    )
    for i in range(STEPS)
  ]
  got, _ = _train(config, _nested(start), [_nested(g) for g in gradients])
  wanted = reference.train(name, start, gradients, rates, numbers)
  for path, leaf in trees.flatten(got).items():
    np.testing.assert_allclose(
      leaf, wanted[path], rtol=2e-5, atol=2e-6, err_msg=path
    )


def test_what_decays():
  got = trees.flatten(optimizer.decayed(_nested(_params())))
  assert got == reference.DECAYED


@pytest.mark.parametrize("name", sorted(optimizer.OPTIMIZERS))
def test_the_state_is_float32_whatever_the_parameters_are(name):
  narrow = jax.tree.map(lambda x: x.astype(jnp.bfloat16), _nested(_params()))
  params, state = _train(OptimizerConfig(name), narrow, [narrow] * 2)
  assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("bfloat16")}
  kinds = {x.dtype for x in jax.tree.leaves(state)}
  assert kinds == {jnp.dtype("float32"), jnp.dtype("int32")}


def test_the_learning_rate_for_the_log_is_the_one_in_use():
  config = OptimizerConfig(
    "adamw", 0.3, ScheduleConfig("linear", warmup_steps=1), weight_decay=0.0
  )
  rate = optimizer.learning_rate(config, 3)
  params = {"kernel": jnp.zeros(())}
  tx = optimizer.make(config, 3)
  state = tx.init(params)
  for step in range(3):
    # Adam's direction for a constant gradient is 1, but for eps.
    updates, state = tx.update({"kernel": jnp.ones(())}, state, params)
    np.testing.assert_allclose(-updates["kernel"], rate(step), rtol=1e-4)


@pytest.mark.parametrize(
  ("section", "message"),
  [
    ({"name": "adam"}, "config.optimizer.name: unknown 'adam'"),
    ({"learning_rate": 0.0}, "config.optimizer.learning_rate"),
    ({"learning_rate": float("nan")}, "config.optimizer.learning_rate"),
    ({"eps": -1.0}, "config.optimizer.eps"),
    ({"b1": 1.0}, "config.optimizer.b1"),
    ({"b2": -0.1}, "config.optimizer.b2"),
    ({"weight_decay": -0.1}, "config.optimizer.weight_decay"),
    ({"clip_norm": -1.0}, "config.optimizer.clip_norm"),
    ({"layer_decay": 0.0}, "config.optimizer.layer_decay"),
    ({"layer_decay": 1.1}, "config.optimizer.layer_decay"),
    ({"l2_to_start": -1.0}, "config.optimizer.l2_to_start"),
    ({"schedule": {"nam": 1}}, "config.optimizer.schedule.nam: unknown key"),
  ],
)
def test_a_wrong_config_is_named(section, message):
  with user_error(message):
    settings.from_dict(OptimizerConfig, section, "config.optimizer")
