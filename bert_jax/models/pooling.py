"""From vectors of tokens to one of each sequence."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from bert_jax.models.config import EncoderConfig
from bert_jax.types import Batch


def mean_of_tokens(
  hidden: Float[Array, "*#rows length hidden"],
  sequence_ids: Int[Array, "*#rows length"],
) -> Float[Array, "... hidden"]:
  """The mean vector of each row's tokens, padding left out; float32."""
  used = (sequence_ids > 0)[..., None]
  total = (hidden * used).sum(-2, dtype=jnp.float32)
  return total / jnp.maximum(used.sum(-2), 1)


def pool(
  config: EncoderConfig,
  hidden: Float[Array, "*rows length hidden"],
  batch: Batch,
) -> Float[Array, "*rows hidden"]:
  """What heads for a whole sequence look at, where rows hold one each."""
  if config.pooling == "first":
    return hidden[..., 0, :]
  return mean_of_tokens(hidden, batch.sequence_ids).astype(hidden.dtype)


def pool_each(
  config: EncoderConfig,
  hidden: Float[Array, "batch length hidden"],
  batch: Batch,
  count: int,
) -> Float[Array, "batch sequences hidden"]:
  """What heads look at for each of up to `count` sequences of a row.

  Where a row has fewer, the rest is finite and means nothing.
  """
  if count == 1:
    return pool(config, hidden, batch)[:, None]
  numbers = jnp.arange(1, count + 1)[:, None]
  is_own = (batch.sequence_ids[:, None] == numbers).astype(jnp.int32)
  if config.pooling == "first":
    first = is_own.argmax(-1)
    return jnp.take_along_axis(hidden, first[:, :, None], axis=1)
  return mean_of_tokens(hidden[:, None], is_own).astype(hidden.dtype)
