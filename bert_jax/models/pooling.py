"""Pooling: one vector for each sequence, from the vectors of its tokens."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bert_jax.models.config import EncoderConfig
from bert_jax.types import Batch


def mean_of_tokens(
  hidden: Float[Array, "... length hidden"],
  sequence_ids: Int[Array, "... length"],
) -> Float[Array, "... hidden"]:
  """The mean vector of the tokens of each row without padding; float32."""
  used = (sequence_ids > 0)[..., None]
  total = (hidden * used).sum(-2, dtype=jnp.float32)
  return total / jnp.maximum(used.sum(-2), 1)


def last_token(
  hidden: Float[Array, "... length hidden"],
  sequence_ids: Int[Array, "... length"],
) -> Float[Array, "... hidden"]:
  """The vector of the last token of each row that is not padding."""
  numbers = jnp.arange(sequence_ids.shape[-1])
  last = jnp.where(sequence_ids > 0, numbers, 0).max(-1)
  return jnp.take_along_axis(hidden, last[..., None, None], axis=-2)[..., 0, :]


MODES = (
  "cls",
  "max",
  "mean",
  "mean_sqrt_len_tokens",
  "weightedmean",
  "lasttoken",
)
"""The modes of `pool_tokens`, named as in sentence-transformers."""


def pool_tokens(
  hidden: Float[Array, "*rows length hidden"],
  sequence_ids: Int[Array, "*rows length"],
  modes: Sequence[str],
  skipped: Int[Array, " batch"] | None = None,
) -> Float[Array, "*rows width"]:
  """The vectors of all modes for each row, concatenated; float32.

  Args:
    hidden: the vectors of tokens.
    sequence_ids: 0 for padding.
    modes: of `MODES`. `cls` is the first token; `mean_sqrt_len_tokens` divides
      the sum by the root of the number of tokens; `weightedmean` weights tokens
      by their position, from 1.
    skipped: the number of tokens at the start of each row that are left out.
  """
  hidden = hidden.astype(jnp.float32)
  length = sequence_ids.shape[-1]
  if skipped is not None:
    skipped = skipped.reshape(*skipped.shape, *[1] * (sequence_ids.ndim - 1))
    sequence_ids = jnp.where(jnp.arange(length) < skipped, 0, sequence_ids)
  used = (sequence_ids > 0)[..., None]

  def first() -> Array:
    if skipped is None:
      return hidden[..., 0, :]
    place = used.argmax(-2)[..., None]
    return jnp.take_along_axis(hidden, place, axis=-2)[..., 0, :]

  def root_mean() -> Array:
    total = (hidden * used).sum(-2)
    return total / jnp.sqrt(jnp.maximum(used.sum(-2), 1))

  def weighted_mean() -> Array:
    weights = used * jnp.arange(1.0, length + 1)[:, None]
    return (hidden * weights).sum(-2) / jnp.maximum(weights.sum(-2), 1)

  pooled = {
    "cls": first,
    "max": lambda: jnp.where(used, hidden, -1e9).max(-2),
    "mean": lambda: mean_of_tokens(hidden, sequence_ids),
    "mean_sqrt_len_tokens": root_mean,
    "weightedmean": weighted_mean,
    "lasttoken": lambda: last_token(hidden, sequence_ids),
  }
  return jnp.concatenate([pooled[name]() for name in modes], axis=-1)


def unit(vectors: Float[Array, "*texts width"]) -> Float[Array, "*texts width"]:
  """Scaled to length 1; zeros stay, and their gradients are finite."""
  squares = jnp.square(vectors).sum(-1, keepdims=True)
  return vectors / jnp.sqrt(jnp.maximum(squares, 1e-24))


def pool(
  config: EncoderConfig,
  hidden: Float[Array, "*rows length hidden"],
  batch: Batch,
) -> Float[Array, "*rows hidden"]:
  """The input of the pooler for rows of one sequence each."""
  if config.pooling == "first":
    return hidden[..., 0, :]
  if config.pooling == "last":
    return last_token(hidden, batch.sequence_ids)
  return mean_of_tokens(hidden, batch.sequence_ids).astype(hidden.dtype)


def pool_each(
  config: EncoderConfig,
  hidden: Float[Array, "batch length hidden"],
  batch: Batch,
  count: int,
) -> Float[Array, "batch sequences hidden"]:
  """The input of the pooler for each of up to `count` sequences of a row.

  The vectors of sequences that a row lacks are finite and meaningless.
  """
  if count == 1:
    return pool(config, hidden, batch)[:, None]
  numbers = jnp.arange(1, count + 1)[:, None]
  is_own = (batch.sequence_ids[:, None] == numbers).astype(jnp.int32)
  if config.pooling == "first":
    first = is_own.argmax(-1)
    return jnp.take_along_axis(hidden, first[:, :, None], axis=1)
  if config.pooling == "last":
    return last_token(hidden[:, None], is_own)
  return mean_of_tokens(hidden[:, None], is_own).astype(hidden.dtype)
