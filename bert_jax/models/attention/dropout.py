"""Dropout of attention weights, and its cheaper forms."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt32

from bert_jax.models.dropout import drop, mask_seeds

BROADCASTS = ("none", "rows", "queries")


class Dropout(NamedTuple):
  """How attention weights are dropped.

  Attributes:
    rate: the share of weights set to zero, above 0.
    key: what the random bits come from.
    broadcast: a name in `BROADCASTS`, see `EncoderConfig`.
  """

  rate: float
  key: PRNGKeyArray
  broadcast: str = "none"


def drop_weights(
  weights: Float[Array, "batch heads queries keys"], dropout: Dropout
) -> Float[Array, "batch heads queries keys"]:
  """Sets weights to zero, and scales the others up."""
  alike = dropout.broadcast == "rows"
  shape = weights.shape[2:] if alike else weights.shape
  return drop(weights, dropout.key, dropout.rate, shape)


def weight_seeds(
  dropout: Dropout, rows: int, heads: int
) -> UInt32[Array, "rows heads"]:
  """The seeds of the masks that `drop_weights` has, for kernels."""
  masks = (1, 1) if dropout.broadcast == "rows" else (rows, heads)
  return jnp.broadcast_to(mask_seeds(dropout.key, masks), (rows, heads))


def drop_keys(
  value: Float[Array, "batch keys heads depth"], dropout: Dropout
) -> Float[Array, "batch keys heads depth"]:
  """Does what dropping all weights of a key in a row and head would do."""
  return drop(value, dropout.key, dropout.rate, (*value.shape[:3], 1))
