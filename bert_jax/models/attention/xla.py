"""Attention in plain `jax.numpy`, for all devices and kinds of dropout."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bert_jax.models.attention.dropout import Dropout, drop_weights
from bert_jax.models.attention.visibility import (
  Keys,
  Tokens,
  mask_of,
  own_mask,
)


def attention_weights(
  query: Array,
  key: Array,
  tokens: Tokens,
  window: int,
  bias: Array | None = None,
  past: Sequence[Keys] = (),
) -> Float[Array, "batch heads queries keys"]:
  """The attention weights, in float32: the softmax of the scaled products.

  `bias` is added to the products. The keys of `past` come first.
  """
  query = scaled(query)
  scores = products(query, key)
  if past:
    earlier = (_shared_products(query, keys.key) for keys in past)
    scores = jnp.concatenate([*earlier, scores], axis=-1)
  if bias is not None:
    scores += bias
  mask = own_mask(tokens, window)
  if past:
    earlier = (_shared_mask(tokens, keys.tokens, window) for keys in past)
    mask = jnp.concatenate([*earlier, mask], axis=-1)
  return jax.nn.softmax(masked(scores, mask), axis=-1)


def attend(
  query: Array,
  key: Array,
  value: Array,
  tokens: Tokens,
  window: int,
  bias: Array | None = None,
  dropout: Dropout | None = None,
  past: Sequence[Keys] = (),
) -> Array:
  """See `attention.attention`."""
  weights = attention_weights(query, key, tokens, window, bias, past)
  if dropout is not None:
    weights = drop_weights(weights, dropout)
  weights = weights.astype(query.dtype)
  ends = np.cumsum([keys.key.shape[1] for keys in past], dtype=int)
  *earlier, own = jnp.split(weights, ends, axis=-1)
  mixed = mix(own, value)
  for part, keys in zip(earlier, past):
    mixed += _mix_shared(part, keys.value)
  return mixed


def scaled(query: Array) -> Array:
  """The queries over the root of their depth."""
  return query * jnp.asarray(query.shape[-1] ** -0.5, query.dtype)


def products(query: Array, key: Array) -> Array:
  """The products of queries and keys, in float32."""
  return jnp.einsum(
    "bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32
  )


def masked(scores: Array, mask: Array) -> Array:
  """Scores, of which those of tokens that are not seen become the least."""
  return jnp.where(mask[:, None], scores, jnp.finfo(jnp.float32).min)


def mix(weights: Array, value: Array) -> Array:
  """The weighted sums of values."""
  return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


# Rows that share the keys of one row of an earlier call, as the beams of a
# source do, are consecutive. They are computed as queries of that row.


def _shared_products(query: Array, key: Array) -> Array:
  rows, length, heads, depth = query.shape
  count = len(key)
  found = products(query.reshape(count, -1, heads, depth), key)
  found = found.reshape(count, heads, rows // count, length, -1)
  return found.swapaxes(1, 2).reshape(rows, heads, length, -1)


def _shared_mask(queries: Tokens, keys: Tokens, window: int) -> Array:
  rows, length = queries.sequence_ids.shape
  count = len(keys.sequence_ids)

  def shared(x: Array | None) -> Array | None:
    return None if x is None else x.reshape(count, -1)

  mask = mask_of(Tokens(*map(shared, queries)), keys, window)
  return mask.reshape(rows, length, -1)


def _mix_shared(weights: Array, value: Array) -> Array:
  rows, heads, length, size = weights.shape
  count = len(value)
  weights = weights.reshape(count, rows // count, heads, length, size)
  mixed = jnp.einsum("bnhqk,bkhd->bnqhd", weights, value)
  return mixed.reshape(rows, length, heads, -1)
