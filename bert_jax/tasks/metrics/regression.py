"""Metrics of values."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from bert_jax.settings import UserError
from bert_jax.tasks.metrics import checks


def evaluate(
  gold: ArrayLike, predicted: ArrayLike, names: Sequence[str]
) -> dict[str, float]:
  """How near predicted values are to the gold ones.

  Args:
    gold: [rows, targets].
    predicted: [rows, targets].
    names: of the targets.

  Returns:
    `pearson` and `spearman` correlation, from -1 to 1, 0 where one side is
    constant; `rmse`, the root of the mean squared error, and `mae`, the mean
    absolute error, both in the unit of the values. With several targets each
    is the mean over them, and each target has its own, `pearson_NAME` and so
    on.

  Raises:
    UserError: there are no rows, the shapes differ, or a value is no finite
      number.
  """
  checks.same_length(gold, predicted)
  right = checks.numbers(gold, "gold values", 2)
  got = checks.numbers(predicted, "predicted values", 2)
  checks.same_shape(right, got)
  if right.shape[1] != len(names):
    raise UserError(
      f"expected {len(names)} values a row ({', '.join(names)}),"
      f" got {right.shape[1]}"
    )
  columns = [_target(*pair) for pair in zip(right.T, got.T)]
  scores = {
    metric: float(np.mean([column[metric] for column in columns]))
    for metric in columns[0]
  }
  if len(names) > 1:
    scores |= {
      f"{metric}_{name}": value
      for name, column in zip(names, columns)
      for metric, value in column.items()
    }
  return scores


def pearson(
  first: Float[np.ndarray, " rows"], second: Float[np.ndarray, " rows"]
) -> float:
  """The linear correlation, 0 where one side is constant."""
  # Imported here: it takes over a second, for which those who only predict
  # need not wait.
  from scipy import stats

  if not np.ptp(first) or not np.ptp(second):
    return 0.0
  return float(stats.pearsonr(first, second).statistic)


def spearman(
  first: Float[np.ndarray, " rows"], second: Float[np.ndarray, " rows"]
) -> float:
  """The correlation of ranks, ties ranked in their middle."""
  from scipy import stats

  return pearson(stats.rankdata(first), stats.rankdata(second))


def _target(
  gold: Float[np.ndarray, " rows"], predicted: Float[np.ndarray, " rows"]
) -> dict[str, float]:
  errors = predicted - gold
  return {
    "pearson": pearson(gold, predicted),
    "spearman": spearman(gold, predicted),
    "rmse": float(np.sqrt(np.mean(errors**2))),
    "mae": float(np.mean(np.abs(errors))),
  }
