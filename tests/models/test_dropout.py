"""Dropout masks: their share, their independence, and the same on any mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.models.dropout import Dropout, drop, keep_mask

RATE = 0.1
KEY = jax.random.key(0)


def deviations(key, shape):
  """The mask with mean 0 and variance 1, where elements are independent."""
  kept = np.asarray(keep_mask(key, RATE, shape), np.float64)
  return (kept - (1 - RATE)) / np.sqrt(RATE * (1 - RATE))


@pytest.mark.parametrize(
  "shape",
  [(100_003,), (4, 3, 128, 128), (64, 128, 48), (4096, 96), (1, 1, 1, 300_000)],
)
def test_share_of_zeros(shape):
  found = deviations(KEY, shape)
  assert abs(found.mean()) * np.sqrt(found.size) < 4


@pytest.mark.parametrize("lag", [1, 2, 48, 64, 48 * 128, 48 * 128 * 3])
def test_neighbors_are_independent(lag):
  found = deviations(KEY, (64, 128, 48)).ravel()
  products = found[lag:] * found[:-lag]
  assert abs(products.mean()) * np.sqrt(products.size) < 4


def test_rows_are_independent():
  rows = deviations(KEY, (96, 128, 48)).reshape(96, -1)
  found = rows @ rows.T / np.sqrt(rows.shape[1])
  found = found[np.triu_indices(96, 1)]
  assert 0.9 < found.std() < 1.1
  assert np.abs(found).max() < 5.5


def test_keys_are_independent():
  keys = jax.random.split(KEY, 64)
  masks = [deviations(key, (32, 16, 64)).ravel() for key in keys]
  found = np.corrcoef(masks)[np.triu_indices(64, 1)] * np.sqrt(masks[0].size)
  assert 0.9 < found.std() < 1.1
  assert np.abs(found).max() < 5.5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_kept_values_are_scaled_up(dtype):
  x = jnp.full((256, 256), 3.0, dtype)
  found = np.asarray(drop(x, KEY, 0.25, None), np.float32)
  assert set(np.unique(found)) == {0.0, 4.0}


def test_gradient_is_zero_where_the_value_is():
  x = jnp.ones((16, 32))
  gradient = jax.grad(lambda x: drop(x, KEY, 0.5).sum())(x)
  np.testing.assert_array_equal(gradient, drop(x, KEY, 0.5))


def test_a_mask_is_broadcast():
  found = np.asarray(drop(jnp.ones((4, 5, 6, 8)), KEY, 0.5, (4, 5, 6, 1)))
  assert (found == found[..., :1]).all()
  assert 0 < (found > 0).mean() < 1


def test_module_needs_no_key_when_deterministic():
  x = jnp.ones((3, 4))
  for module, deterministic in ((Dropout(0.5), True), (Dropout(0.0), False)):
    assert module.apply({}, x, deterministic) is x
  found = Dropout(0.5).apply({}, x, False, rngs={"dropout": KEY})
  assert set(np.unique(found)) <= {0.0, 2.0}
