"""From logits to probabilities in NumPy, whichever library computed them."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from bert_jax.batch import Array

_Array = Float[np.ndarray, "..."]
_erf = np.frompyfunc(math.erf, 1, 1)


def logsumexp(x: ArrayLike, axis: int = -1) -> _Array:
  """The log of the sum of exponentials over an axis, which it removes."""
  x = np.asarray(x)
  # Finite where all are -inf.
  most = np.maximum(x.max(axis, keepdims=True), np.finfo(x.dtype).min)
  with np.errstate(divide="ignore"):
    total = np.log(np.exp(x - most).sum(axis, keepdims=True))
  return (total + most).squeeze(axis)


def softmax(x: ArrayLike) -> _Array:
  """The probabilities of the classes on the last axis."""
  x = np.asarray(x)
  made = np.exp(x - x.max(-1, keepdims=True, initial=np.finfo(x.dtype).min))
  made /= made.sum(-1, keepdims=True)
  return made


def entropy(logits: Float[Array, "*rows classes"]) -> Float[Array, "*rows"]:
  """The entropy in nats of the classes; of NumPy's arrays or JAX's."""
  xp = logits.__array_namespace__()
  x = logits - logits.max(-1, keepdims=True)
  made = xp.exp(x)
  total = made.sum(-1)
  return xp.log(total) - (made * x).sum(-1) / total


def sigmoid(x: ArrayLike) -> _Array:
  """The probability of yes, from its logit."""
  x = np.asarray(x)
  small = np.exp(-np.abs(x))
  return np.where(x >= 0, 1, small).astype(x.dtype) / (1 + small)


def top_k(
  x: Float[np.ndarray, " items"], count: int
) -> tuple[Float[np.ndarray, " count"], Int[np.ndarray, " count"]]:
  """The greatest items and their indices, the greatest first.

  Of equal items the first ones come first.
  """
  places = np.arange(len(x))
  if 0 < count < len(x):
    least = np.partition(x, len(x) - count)[len(x) - count]
    chosen = np.flatnonzero(x >= least)
    # NaN is not at least itself.
    places = chosen if len(chosen) >= count else places
  places = places[np.argsort(-x[places], kind="stable")[:count]]
  return x[places], places


def _gelu(x: _Array) -> _Array:
  return x * (0.5 + 0.5 * _erf(x * 0.5**0.5).astype(x.dtype))


def _gelu_tanh(x: _Array) -> _Array:
  return x * (0.5 + 0.5 * np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))


ACTIVATIONS: Mapping[str, Callable[[_Array], _Array]] = {
  "gelu": _gelu,
  "gelu_tanh": _gelu_tanh,
  "identity": lambda x: x,
  "leaky_relu": lambda x: np.where(x >= 0, x, 0.01 * x),
  "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
  "quick_gelu": lambda x: x * sigmoid(1.702 * x),
  "relu": lambda x: np.maximum(x, 0),
  "relu2": lambda x: np.square(np.maximum(x, 0)),
  "relu6": lambda x: np.clip(x, 0, 6),
  "sigmoid": sigmoid,
  "silu": lambda x: x * sigmoid(x),
  "tanh": np.tanh,
}
"""The functions of `models.activations` on NumPy arrays."""
