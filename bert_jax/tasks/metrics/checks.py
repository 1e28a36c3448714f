"""What all scores ask of what they are given."""

from collections.abc import Sized

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from bert_jax.settings import UserError


def same_length(gold: Sized, predicted: Sized, what: str = "answers") -> None:
  """Raises a UserError unless there are rows, and as many of both."""
  if not len(gold):
    raise UserError("nothing to evaluate: there are no rows with gold labels")
  if len(gold) != len(predicted):
    raise UserError(
      f"expected {what} for {len(gold)} rows, got {len(predicted)}"
    )


def numbers(
  values: ArrayLike, what: str, dimensions: int
) -> Float[np.ndarray, "..."]:
  """The values as float64, checked to be finite.

  Args:
    values: numbers, such as a list of rows.
    what: they are, for messages.
    dimensions: of the array that they are to make.

  Raises:
    UserError: they make no such array, or one is NaN or infinite.
  """
  try:
    array = np.asarray(values, np.float64)
  except (TypeError, ValueError) as error:
    raise UserError(f"{what}: expected rows of numbers; {error}") from error
  if array.ndim != dimensions:
    raise UserError(
      f"{what}: expected {dimensions} dimensions, got shape {array.shape}"
    )
  if bad := np.count_nonzero(~np.isfinite(array)):
    raise UserError(f"{what}: {bad} of {array.size} are NaN or infinite")
  return array


def same_shape(gold: np.ndarray, predicted: np.ndarray) -> None:
  """Raises a UserError unless there are rows, and both have the same shape."""
  same_length(gold, predicted)
  if gold.shape != predicted.shape:
    raise UserError(
      f"expected answers of shape {gold.shape}, got {predicted.shape}"
    )


def zeros_and_ones(values: ArrayLike, what: str) -> Int[np.ndarray, "rows n"]:
  """The values as integers, checked to be rows of 0 and 1."""
  array = numbers(values, what, 2)
  if not np.isin(array, (0, 1)).all():
    raise UserError(f"{what}: expected 0 and 1 only")
  return array.astype(np.int64)
