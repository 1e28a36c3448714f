import dataclasses

import jax
import numpy as np
import pytest

from bert_jax.models.encoder import Encoder
from bert_jax.types import Batch
from tests import small

CONFIG = dataclasses.replace(
  small.ENCODER,
  hidden_size=32,
  num_layers=1,
  intermediate_size=128,
  max_positions=64,
)
ROWS, LENGTH = 4, 64


@pytest.fixture(scope="module")
def batch():
  ids = np.random.default_rng(0).integers(1, 19, (ROWS, LENGTH))
  return Batch.from_ids(ids)


def total(config, batch):
  """A function of parameters: a sum over outputs, which dropout changes."""

  def of(params):
    key = {"dropout": jax.random.key(1)}
    hidden = Encoder(config).apply(params, batch, False, rngs=key)
    return (hidden**2 * np.arange(config.hidden_size)).sum()

  return of


def saved(config, batch):
  """The number of values that are saved for the backward pass."""
  params = jax.eval_shape(Encoder(config).init, jax.random.key(0), batch)
  backward = jax.eval_shape(
    lambda params: jax.vjp(total(config, batch), params)[1], params
  )
  return sum(leaf.size for leaf in jax.tree.leaves(backward))


def test_gradients_are_the_same(batch):
  params = jax.jit(Encoder(CONFIG).init)(jax.random.key(0), batch)
  plain, *rematerialized = (
    jax.jit(jax.grad(total(dataclasses.replace(CONFIG, remat=remat), batch)))
    for remat in ("none", "minimal", "full")
  )
  wanted = plain(params)
  for gradients in rematerialized:
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-3),
      gradients(params),
      wanted,
    )


def test_what_is_saved_for_the_backward_pass(batch):
  config = dataclasses.replace(CONFIG, num_layers=2)
  none, minimal, full = (
    saved(dataclasses.replace(config, remat=remat), batch)
    for remat in ("none", "minimal", "full")
  )
  # Queries, keys, values, the output of attention, and the two products of the
  # feed-forward block, the first of which is four times as wide.
  products = 9 * config.num_layers * ROWS * LENGTH * CONFIG.hidden_size
  assert minimal - full == products
  assert none > 4 * minimal
