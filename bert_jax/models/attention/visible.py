"""Which tokens may see which."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int


def visible(
  sequence_ids: Int[Array, "batch length"], window: int
) -> Bool[Array, "batch length length"]:
  """Whether a query (second axis) sees a key (third axis).

  Padding sees padding: no row of it is empty, so that no softmax divides by
  zero.
  """
  seen = sequence_ids[:, :, None] == sequence_ids[:, None, :]
  if window:
    place = jnp.arange(sequence_ids.shape[1])
    seen &= abs(place[:, None] - place) <= window // 2
  return seen
