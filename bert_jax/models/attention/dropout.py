"""Dropout of attention weights, and its cheaper forms."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

SHARED_BY = ("none", "rows", "queries")


class Dropout(NamedTuple):
  """How attention weights are dropped.

  Attributes:
    rate: the share of weights set to zero, above 0.
    key: what the random bits come from.
    shared_by: a name in `SHARED_BY`, see `EncoderConfig`.
  """

  rate: float
  key: PRNGKeyArray
  shared_by: str = "none"


def drop_weights(
  weights: Float[Array, "batch heads queries keys"], dropout: Dropout
) -> Float[Array, "batch heads queries keys"]:
  """Sets weights to zero, and scales the others up."""
  alike = dropout.shared_by == "rows"
  return _drop(weights, weights.shape[2:] if alike else weights.shape, dropout)


def drop_keys(
  value: Float[Array, "batch keys heads depth"], dropout: Dropout
) -> Float[Array, "batch keys heads depth"]:
  """Does what dropping all weights of a key in a row and head would do."""
  return _drop(value, (*value.shape[:3], 1), dropout)


def _drop(x: Array, shape: tuple[int, ...], dropout: Dropout) -> Array:
  keep = 1 - dropout.rate
  kept = jax.random.bernoulli(dropout.key, keep, shape)
  return jnp.where(kept, x / jnp.asarray(keep, x.dtype), 0)
