"""Dropout of attention weights, whose masks may be broadcast."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from bert_jax.models.dropout import drop, drop_by_mask, is_kept, mask_seeds


class Dropout(NamedTuple):
  """Dropout of attention weights.

  Attributes:
    rate: the share of weights set to zero, above 0.
    key: the PRNG key of the masks.
    broadcast: `none`, `rows` or `queries`; see `attention_dropout_broadcast` of
      `EncoderConfig`.
  """

  rate: float
  key: PRNGKeyArray
  broadcast: str = "none"


def drop_weights(
  weights: Float[Array, "batch heads queries keys"], dropout: Dropout
) -> Float[Array, "batch heads queries keys"]:
  """Sets weights to zero and scales up the others."""
  is_shared = dropout.broadcast == "rows"
  shape = weights.shape[2:] if is_shared else weights.shape
  return drop(weights, dropout.key, dropout.rate, shape)


def drop_weights_at(
  weights: Float[Array, "rows heads queries keys"],
  place: Int[Array, "#rows 1 queries keys"],
  seeds: UInt32[Array, "rows heads"],
  rate: float,
) -> Float[Array, "rows heads queries keys"]:
  """`drop_weights` of a part of the weights.

  `place` is the row-major index of each weight in all of a head, [length,
  length], and `seeds` are those of `weight_seeds`.
  """
  mask = is_kept(place.astype(jnp.uint32), seeds[:, :, None, None], rate)
  return drop_by_mask(weights, mask, rate)


def weight_seeds(
  dropout: Dropout, rows: int, heads: int
) -> UInt32[Array, "rows heads"]:
  """The seeds of the masks of `drop_weights`, for parts and kernels."""
  masks = (1, 1) if dropout.broadcast == "rows" else (rows, heads)
  return jnp.broadcast_to(mask_seeds(dropout.key, masks), (rows, heads))


def drop_keys(
  value: Float[Array, "batch keys heads depth"], dropout: Dropout
) -> Float[Array, "batch keys heads depth"]:
  """Drops keys for all queries of a row and head, by dropping their values."""
  return drop(value, dropout.key, dropout.rate, (*value.shape[:3], 1))
