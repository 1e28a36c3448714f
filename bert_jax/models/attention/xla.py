"""Attention in plain `jax.numpy`, for all devices and kinds of dropout."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from bert_jax.models.attention.dropout import Dropout, drop_weights


def attention_mask(
  sequence_ids: Int[Array, "batch length"], window: int
) -> Bool[Array, "batch length length"]:
  """Whether a query (second axis) attends to a key (third axis).

  Padding attends to padding, so that no row is empty and no softmax divides by
  zero. With a `window`, the distance is at most `window // 2`.
  """
  mask = sequence_ids[:, :, None] == sequence_ids[:, None, :]
  if window:
    position = jnp.arange(sequence_ids.shape[1])
    mask &= abs(position[:, None] - position) <= window // 2
  return mask


def attention_weights(
  query: Array,
  key: Array,
  sequence_ids: Array,
  window: int,
  bias: Array | None = None,
) -> Float[Array, "batch heads queries keys"]:
  """The attention weights, in float32: the softmax of the scaled products.

  `bias` is added to the products.
  """
  scale = query.shape[-1] ** -0.5
  scores = jnp.einsum(
    "bqhd,bkhd->bhqk",
    query * jnp.asarray(scale, query.dtype),
    key,
    preferred_element_type=jnp.float32,
  )
  if bias is not None:
    scores += bias
  mask = attention_mask(sequence_ids, window)[:, None]
  scores = jnp.where(mask, scores, jnp.finfo(jnp.float32).min)
  return jax.nn.softmax(scores, axis=-1)


def attend(
  query: Array,
  key: Array,
  value: Array,
  sequence_ids: Array,
  window: int,
  bias: Array | None = None,
  dropout: Dropout | None = None,
) -> Array:
  """See `attention.attention`."""
  weights = attention_weights(query, key, sequence_ids, window, bias)
  if dropout is not None:
    weights = drop_weights(weights, dropout)
  return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(query.dtype), value)
