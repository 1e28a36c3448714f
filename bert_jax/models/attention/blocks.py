"""Attention in blocks of queries, in memory that grows with the length.

For the long rows of the backend `xla`. Of local layers, the weights of each
block of queries are computed for the keys in its reach alone, as in Longformer
(Beltagy et al. 2020, arXiv:2004.05150). Of others, the weights of one block
after the other are computed for all keys, and again in the backward pass (Rabe
and Staats 2021, arXiv:2112.05682).
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bert_jax.models.attention import xla
from bert_jax.models.attention.dropout import (
  Dropout,
  drop_weights_at,
  weight_seeds,
)
from bert_jax.models.attention.visibility import Tokens, mask_of

LONG = 512
"""The length above which rows are computed in blocks.

Measured on one core of a busy machine, with 2,048 tokens and 6 heads of 64: the
blocks of a global layer take as long as all at once at 512 tokens, forward and
backward, and half as long at 2,048. Those of a local layer with a window of 128
take twice as long at 128, half as long at 512, and less than a tenth at 2,048.
Up to 512, the maximum length of most encoders, there is one form for all.
"""

_BLOCK = 128
_MIN_LOCAL_BLOCK = 64


def attend(
  query: Array,
  key: Array,
  value: Array,
  tokens: Tokens,
  window: int,
  dropout: Dropout | None = None,
) -> Float[Array, "batch length heads depth"]:
  """See `attention.attention`; the same as `xla.attend`, but for rounding."""
  query = xla.scaled(query)
  # With stages, keys in reach may be anywhere in the row.
  if window and tokens.stage_ids is None:
    return _local(query, key, value, tokens, window, dropout)
  return _global(query, key, value, tokens, window, dropout)


def _local(
  query: Array,
  key: Array,
  value: Array,
  tokens: Tokens,
  window: int,
  dropout: Dropout | None,
) -> Array:
  """All blocks at once, as rows, each with the keys in its reach."""
  rows, length, heads, _ = query.shape
  reach = window // 2
  size = max(reach, _MIN_LOCAL_BLOCK)
  count = -(-length // size)

  def own(x: Array, fill: int = 0) -> Array:
    x = _pad(x, (0, count * size - length), fill)
    return x.reshape(rows * count, size, *x.shape[2:])

  def near(x: Array, fill: int = 0) -> Array:
    x = _pad(x, (size, (count + 1) * size - length), fill)
    x = x.reshape(rows, count + 2, size, *x.shape[2:])
    parts = (x[:, :-2, size - reach :], x[:, 1:-1], x[:, 2:, :reach])
    x = jnp.concatenate(parts, axis=2)
    return x.reshape(rows * count, *x.shape[2:])

  # Tokens beyond the row attend to one another.
  ids = tokens.sequence_ids
  queries, keys = Tokens(own(ids, fill=-1)), Tokens(near(ids, fill=-1))
  places = (jnp.arange(size), jnp.arange(-reach, size + reach))
  mask = mask_of(queries, keys, window, places)
  weights = jax.nn.softmax(
    xla.masked(xla.products(own(query), near(key)), mask), axis=-1
  )
  if dropout is not None:
    begin = size * jnp.arange(count)[:, None, None]
    place = (begin + places[0][:, None]) * length + begin + places[1]
    place = jnp.tile(place, (rows, 1, 1))[:, None]
    seeds = weight_seeds(dropout, rows, heads).repeat(count, axis=0)
    weights = drop_weights_at(weights, place, seeds, dropout.rate)
  mixed = xla.mix(weights.astype(query.dtype), near(value))
  return mixed.reshape(rows, count * size, *mixed.shape[2:])[:, :length]


def _global(
  query: Array,
  key: Array,
  value: Array,
  tokens: Tokens,
  window: int,
  dropout: Dropout | None,
) -> Array:
  """One block of queries after the other, each with all keys."""
  rows, length, heads, _ = query.shape
  count = -(-length // _BLOCK)
  place = jnp.arange(length)
  seeds = weight_seeds(dropout, rows, heads) if dropout else None

  def split(x: Array) -> Array:
    x = _pad(x, (0, count * _BLOCK - length))
    return x.reshape(rows, count, _BLOCK, *x.shape[2:]).swapaxes(0, 1)

  @functools.partial(jax.checkpoint, prevent_cse=False)
  def mixed(block: tuple[Array, Array, Tokens]) -> Array:
    begin, query, queries = block
    own = begin + jnp.arange(_BLOCK)
    mask = mask_of(queries, tokens, window, (own, place))
    weights = jax.nn.softmax(
      xla.masked(xla.products(query, key), mask), axis=-1
    )
    if dropout is not None:
      at = own[:, None] * length + place
      weights = drop_weights_at(weights, at[None, None], seeds, dropout.rate)
    return xla.mix(weights.astype(query.dtype), value)

  begins = _BLOCK * jnp.arange(count)
  blocks = (begins, split(query), jax.tree.map(split, tokens))
  out = jax.lax.map(mixed, blocks).swapaxes(0, 1)
  return out.reshape(rows, count * _BLOCK, *query.shape[2:])[:, :length]


def _pad(x: Array, width: tuple[int, int], fill: int = 0) -> Array:
  rest = ((0, 0),) * (x.ndim - 2)
  return jnp.pad(x, ((0, 0), width, *rest), constant_values=fill)
