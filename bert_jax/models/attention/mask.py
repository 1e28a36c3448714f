"""The attention mask of packed rows."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


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
