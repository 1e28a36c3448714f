import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.models import pooling
from bert_jax.models.activations import ACTIVATIONS
from bert_jax.tasks.targets import numeric

X = np.linspace(-12, 12, 97, dtype=np.float32)
LOGITS = np.random.default_rng(0).normal(0, 30, (7, 11)).astype(np.float32)


def same(found, expected):
  assert found.dtype == np.float32
  np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_those_of_jax(name):
  same(numeric.ACTIVATIONS[name](X), ACTIVATIONS[name](jnp.array(X)))


def test_probabilities_are_those_of_jax():
  same(numeric.softmax(LOGITS), jax.nn.softmax(LOGITS))
  same(numeric.sigmoid(100 * X), jax.nn.sigmoid(100 * X))
  same(numeric.logsumexp(LOGITS, 0), jax.nn.logsumexp(LOGITS, axis=0))
  assert numeric.logsumexp(np.full(3, -np.inf, np.float32)) < -1e37
  assert numeric.softmax(np.zeros((0, 4), np.float32)).shape == (0, 4)


@pytest.mark.parametrize("count", [1, 3, 6, 9])
@pytest.mark.parametrize(
  "x", [[3, 1, 3, 2, 3, 1], [1, 2, 3, 4, 5, 6], [-np.inf] * 5 + [0]]
)
def test_the_greatest_are_those_of_jax(x, count):
  x = np.array(x, np.float32)
  found = numeric.top_k(x, count)
  expected = jax.lax.top_k(x, min(count, len(x)))
  for own, theirs in zip(found, expected, strict=True):
    np.testing.assert_array_equal(own, theirs)


@pytest.mark.parametrize("skipped", [None, np.array([2, 0, 1])])
def test_pooling_is_that_of_jax(skipped):
  rng = np.random.default_rng(1)
  hidden = rng.normal(size=(3, 5, 4)).astype(np.float32)
  sequences = np.array([[1] * 5, [1] * 2 + [0] * 3, [0] * 5])
  found, expected = (
    pooling.unit(pooling.pool_tokens(x, sequences, pooling.MODES, skipped))
    for x in (hidden, jnp.array(hidden))
  )
  assert isinstance(found, np.ndarray)
  same(found, expected)
