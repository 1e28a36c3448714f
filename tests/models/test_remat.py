import dataclasses

import jax
import numpy as np
import pytest

from bert_jax.models.encoder import Encoder
from bert_jax.types import Batch
from tests import small

CONFIG = dataclasses.replace(
  small.ENCODER, hidden_size=32, intermediate_size=128, max_positions=64
)
ROWS, LENGTH = 4, 64


@pytest.fixture(scope="module")
def batch():
  rng = np.random.default_rng(0)
  shape = (ROWS, LENGTH)
  return Batch(
    token_ids=rng.integers(1, 19, shape),
    segment_ids=np.zeros(shape, np.int32),
    position_ids=np.tile(np.arange(LENGTH), (ROWS, 1)),
    sequence_ids=np.ones(shape, np.int32),
    targets={},
  )


@pytest.fixture(scope="module")
def params(batch):
  return jax.jit(Encoder(CONFIG).init)(jax.random.key(0), batch)


def total(config, batch):
  """A sum over the encoder's outputs, which dropout changes."""

  def of(params):
    key = {"dropout": jax.random.key(1)}
    hidden = Encoder(config).apply(params, batch, False, rngs=key)
    return (hidden**2 * np.arange(config.hidden_size)).sum()

  return of


def kept(config, params, batch):
  """The numbers that are kept for the backward pass."""
  back = jax.eval_shape(
    lambda params: jax.vjp(total(config, batch), params)[1], params
  )
  return sum(leaf.size for leaf in jax.tree.leaves(back))


def test_gradients_are_the_same(params, batch):
  everything, *anew = (
    jax.jit(jax.grad(total(dataclasses.replace(CONFIG, remat=remat), batch)))
    for remat in ("none", "minimal", "full")
  )
  wanted = everything(params)
  for gradients in anew:
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-3),
      gradients(params),
      wanted,
    )


def test_what_is_kept(params, batch):
  none, minimal, full = (
    kept(dataclasses.replace(CONFIG, remat=remat), params, batch)
    for remat in ("none", "minimal", "full")
  )
  # Queries, keys, values, what attention gives, and the two products of the
  # feed-forward block, the first of which is four times as wide.
  products = 9 * CONFIG.num_layers * ROWS * LENGTH * CONFIG.hidden_size
  assert minimal - full == products
  assert none > 4 * minimal
