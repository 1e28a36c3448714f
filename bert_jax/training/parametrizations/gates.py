"""Hard concrete gates: random, in [0, 1], and often exactly 0 or 1.

Of Louizos et al. (2018), "Learning Sparse Neural Networks through L0
Regularization", arXiv:1712.01312, with their constants. A gate is open with a
probability that is differentiable in its parameter log alpha.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

START = 2.0
"""An initial log alpha: a gate is 0 with a probability of 3 percent."""

_TEMPERATURE = 2 / 3
_LEAST, _GREATEST = -0.1, 1.1


def sample(
  log_alpha: Float[Array, " items"], key: Any
) -> Float[Array, " items"]:
  """Random gates."""
  noise = jax.random.logistic(key, log_alpha.shape, log_alpha.dtype)
  return _stretched(jax.nn.sigmoid((noise + log_alpha) / _TEMPERATURE))


def mean(log_alpha: Float[Array, " items"]) -> Float[Array, " items"]:
  """The gates to predict with."""
  return _stretched(jax.nn.sigmoid(log_alpha))


def probability(log_alpha: Float[Array, " items"]) -> Float[Array, " items"]:
  """The probability of each gate not to be 0."""
  bound = _TEMPERATURE * math.log(-_LEAST / _GREATEST)
  return jax.nn.sigmoid(log_alpha - bound)


def _stretched(x: Float[Array, " items"]) -> Float[Array, " items"]:
  return jnp.clip(x * (_GREATEST - _LEAST) + _LEAST, 0, 1)
