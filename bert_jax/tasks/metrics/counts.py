"""Precision, recall and F1 from counts."""

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike


def rates(
  correct: ArrayLike, found: ArrayLike, gold: ArrayLike
) -> dict[str, Float[np.ndarray, "..."]]:
  """`precision`, `recall` and `f1`; what would divide by zero is 0.

  Args:
    correct: how many were found that are in the gold, of any shape.
    found: how many were found, of the same shape.
    gold: how many there are, of the same shape.
  """
  correct, found, gold = (
    np.asarray(count, np.float64) for count in (correct, found, gold)
  )
  return {
    "precision": _divide(correct, found),
    "recall": _divide(correct, gold),
    "f1": _divide(2 * correct, found + gold),
  }


def _divide(some: ArrayLike, whole: ArrayLike) -> Float[np.ndarray, "..."]:
  return np.asarray(some / np.maximum(whole, 1))
