"""The lowest of many scores, without sorting them."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float32, Int32

_LEAST = np.int32(-(2**31))
# The greatest finite number, as an integer.
_GREATEST = np.finfo(np.float32).max.view(np.int32)


def lowest(
  scores: Sequence[Float32[Array, "..."]], costs: Sequence[int], goal: Any
) -> list[Bool[Array, "..."]]:
  """The lowest scores of all arrays together whose costs reach a goal.

  Equal scores are chosen together. It takes 32 passes over the scores, a
  bisection over the bits of numbers: on CPUs a sort takes far longer.

  Args:
    scores: an infinite one is never chosen.
    costs: of each element of each array.
    goal: at 0 none are chosen; what the finite scores do not reach is left.

  Returns:
    True for those that are chosen.
  """
  ordered = [_ordered(x) for x in scores]

  def halve(_, bounds):
    low, high = bounds
    # The mean, rounded down, without overflow.
    middle = (low & high) + ((low ^ high) >> 1)
    chosen = sum(
      cost * (x <= middle).sum(dtype=jnp.int32)
      for x, cost in zip(ordered, costs)
    )
    reached = chosen >= goal
    return jnp.where(reached, low, middle), jnp.where(reached, middle, high)

  bounds = (jnp.asarray(_LEAST), jnp.asarray(_GREATEST))
  _, threshold = jax.lax.fori_loop(0, 32, halve, bounds)
  return [(x <= threshold) & (goal > 0) for x in ordered]


def _ordered(x: Float32[Array, "..."]) -> Int32[Array, "..."]:
  """Integers in the order of the numbers."""
  bits = jax.lax.bitcast_convert_type(x, jnp.int32)
  return bits ^ ((bits >> 31) & np.int32(2**31 - 1))
