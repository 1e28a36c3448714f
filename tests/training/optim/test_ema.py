import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bert_jax.settings import from_dict
from bert_jax.training.optim import ema, guard
from bert_jax.training.optim.ema import EmaConfig
from bert_jax.training.optim.guard import GuardConfig
from bert_jax.types import TrainState
from tests.errors import user_error


def test_averages_are_those_of_numpy_and_leave_the_updates_alone():
  rng = np.random.default_rng(0)
  params = {"a": rng.normal(size=3), "b": {"c": rng.normal(size=(2, 2))}}
  params = jax.tree.map(jnp.float32, params)
  plain, averaged = optax.adam(0.1), ema.with_ema(optax.adam(0.1), 0.9)
  state, other = averaged.init(params), plain.init(params)
  expected = jax.tree.map(np.float64, params)
  for _ in range(5):
    gradients = jax.tree.map(
      lambda x: jnp.float32(rng.normal(size=x.shape)), params
    )
    updates, state = averaged.update(gradients, state, params)
    same, other = plain.update(gradients, other, params)
    jax.tree.map(np.testing.assert_array_equal, updates, same)
    params = optax.apply_updates(params, updates)
    expected = jax.tree.map(lambda x, y: 0.9 * x + 0.1 * y, expected, params)
  found = ema.model_params(TrainState(jnp.int32(5), params, state, None))
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), found, expected
  )


def test_a_skipped_update_leaves_the_averages_as_they_are():
  params = {"a": jnp.ones(2)}
  guarded = guard.guarded(ema.with_ema(optax.sgd(0.1), 0.5), GuardConfig())
  state = guarded.init(params)
  _, after = guarded.update({"a": jnp.array([1.0, jnp.nan])}, state, params)
  np.testing.assert_array_equal(after.inner.ema_params["a"], np.ones(2))


def test_without_averages_the_model_has_the_trained_parameters():
  params = {"a": jnp.ones(2)}
  state = TrainState(jnp.int32(0), params, optax.adam(1.0).init(params), None)
  assert ema.model_params(state) is params


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_the_decay_is_checked(decay):
  with user_error(r"config.ema.decay: expected in \[0, 1\)"):
    from_dict(EmaConfig, {"decay": decay}, "config.ema")
