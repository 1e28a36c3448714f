import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bert_jax import settings, trees
from bert_jax.training.optim import guard
from bert_jax.training.optim.guard import GuardConfig
from bert_jax.training.train import make_update
from bert_jax.types import Mean, TrainState
from tests.errors import user_error
from tests.training.mesh import steps

PARAMS = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}
BAD = (jnp.nan, jnp.inf, -jnp.inf)


def gradients(size, bad=None):
  a = jnp.array([size, 0.0 if bad is None else bad])
  return {"a": a, "b": jnp.array(0.0)}


@jax.jit
def plain(found, state):
  return optax.adam(0.1).update(found, state, PARAMS)


def make(**config):
  guarded = guard.guarded(optax.adam(0.1), GuardConfig(**config))
  return guarded.init(PARAMS), jax.jit(
    lambda found, state: guarded.update(found, state, PARAMS)
  )


@pytest.mark.parametrize("bad", BAD)
def test_an_update_that_is_not_finite_leaves_no_trace(bad):
  state, update = make()
  expected = optax.adam(0.1).init(PARAMS)
  for size in (1.0, 2.0):
    updates, state = update(gradients(size, bad), state)
    assert all((x == 0).all() for x in jax.tree.leaves(updates))
    assert state.skipped_in_a_row == 1
    updates, state = update(gradients(size), state)
    wanted, expected = plain(gradients(size), expected)
    jax.tree.map(np.testing.assert_array_equal, updates, wanted)
    jax.tree.map(np.testing.assert_array_equal, state.inner, expected)
    assert state.skipped_in_a_row == 0
  for count in (1, 2, 3):
    _, state = update(gradients(1.0, bad), state)
    assert guard.skipped_in_a_row(state) == count


def test_the_schedule_goes_on_while_updates_are_skipped():
  rate = optax.linear_schedule(1.0, 0.0, 10)
  chain = optax.chain(optax.scale_by_adam(), optax.scale_by_learning_rate(rate))
  guarded = guard.guarded(chain, GuardConfig())
  state = guarded.init(PARAMS)
  for bad in (None, jnp.nan, jnp.inf, None):
    before = state
    updates, state = guarded.update(gradients(1.0, bad), state, PARAMS)
  # The moments are of two updates, the rate is that of the fourth.
  adam, schedule = state.inner
  assert (int(adam.count), int(schedule.count)) == (2, 4)
  wanted, _ = optax.scale_by_adam().update(gradients(1.0), before.inner[0])
  np.testing.assert_allclose(updates["a"], -0.7 * wanted["a"], rtol=1e-6)


def test_a_spike_is_skipped_once_the_usual_spread_is_known():
  state, update = make(spike_sigmas=6.0)
  rng = np.random.default_rng(0)
  skipped = []
  for size in [1e6, *np.exp(0.1 * rng.standard_normal(300)), 1e3, 1.0]:
    _, state = update(gradients(size), state)
    skipped.append(int(state.skipped_in_a_row))
  # The first, with nothing to compare it to, counts as any other.
  assert skipped == [0] * 301 + [1, 0]


def test_without_sigmas_no_spike_is_skipped():
  state, update = make()
  for size in [*[1.0] * 120, 1e9]:
    _, state = update(gradients(size), state)
  assert state.skipped_in_a_row == 0


def test_an_optimizer_without_a_guard_skips_nothing():
  assert guard.skipped_in_a_row(optax.adam(0.1).init(PARAMS)) == 0


def test_a_step_that_is_skipped_changes_nothing_but_the_count():
  task = steps.task()
  guarded = guard.guarded(optax.adam(1e-2), GuardConfig())
  params = steps.initial(optax.identity()).params
  state = TrainState(
    jnp.int32(0), params, guarded.init(params), jax.random.key(0)
  )
  update = jax.jit(make_update(task, guarded))
  good = steps.batch()
  weights = np.full_like(good.targets["masked_lm/weights"], np.nan)
  targets = {**good.targets, "masked_lm/weights": weights}
  bad = dataclasses.replace(good, targets=targets)
  after, measures = update(state, bad)
  assert int(after.step) == 1
  for path, leaf in trees.flatten(params).items():
    np.testing.assert_array_equal(trees.flatten(after.params)[path], leaf)
  assert measures["mlm_loss"] == Mean(0.0, 0.0)
  assert measures["gradient_norm"] == Mean(0.0, 0.0)
  assert measures["skipped_updates"] == Mean(1.0, 1.0)
  assert float(measures["nsp_loss"].value()) > 0
  after, measures = update(after, good)
  assert measures["skipped_updates"].total == 0
  assert float(measures["mlm_loss"].value()) > 0


@pytest.mark.parametrize(
  "section", [{"max_skipped": 0}, {"spike_sigmas": -1.0}]
)
def test_a_wrong_config_is_named(section):
  (key,) = section
  with user_error(rf"config.guard.{key}: "):
    settings.from_dict(GuardConfig, section, "config.guard")
