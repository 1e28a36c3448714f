"""Pooling: one vector for each sequence, from the vectors of its tokens."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bert_jax.models.config import EncoderConfig
from bert_jax.types import Batch


def mean_of_tokens(
  hidden: Float[Array, "*#rows length hidden"],
  sequence_ids: Int[Array, "*#rows length"],
) -> Float[Array, "... hidden"]:
  """The mean vector of the tokens of each row without padding; float32."""
  used = (sequence_ids > 0)[..., None]
  total = (hidden * used).sum(-2, dtype=jnp.float32)
  return total / jnp.maximum(used.sum(-2), 1)


def last_token(
  hidden: Float[Array, "*#rows length hidden"],
  sequence_ids: Int[Array, "*#rows length"],
) -> Float[Array, "... hidden"]:
  """The vector of the last token of each row that is not padding."""
  numbers = jnp.arange(sequence_ids.shape[-1])
  last = jnp.where(sequence_ids > 0, numbers, 0).max(-1)
  return jnp.take_along_axis(hidden, last[..., None, None], axis=-2)[..., 0, :]


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
