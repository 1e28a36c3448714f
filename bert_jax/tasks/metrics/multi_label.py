"""Metrics of any number of labels a row, and the thresholds that decide them.

A label is predicted where its probability is at least its threshold.
"""

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from bert_jax.settings import UserError
from bert_jax.tasks.metrics import checks
from bert_jax.tasks.metrics.counts import rates

_USUAL = 0.5


def evaluate(
  gold: ArrayLike, probabilities: ArrayLike, thresholds: ArrayLike
) -> dict[str, float]:
  """How well labels are predicted.

  Args:
    gold: 0 or 1, [rows, labels].
    probabilities: from 0 to 1, [rows, labels].
    thresholds: from 0 to 1, [labels].

  Returns:
    `micro_precision`, `micro_recall`, `micro_f1` over all decisions together;
    `macro_precision`, `macro_recall`, `macro_f1`, means over the labels, where
    what would divide by zero is 0; `subset_accuracy`, the share of rows with
    all labels right; `micro_average_precision` and `macro_average_precision`
    of the probabilities, the latter over the labels that some row has: for
    others it is undefined.

  Raises:
    UserError: there are no rows, the shapes differ, or values are no such
      numbers.
  """
  right, chances = _check(gold, probabilities)
  cuts = checks.numbers(thresholds, "thresholds", 1)
  if len(cuts) != right.shape[1]:
    raise UserError(
      f"expected {right.shape[1]} thresholds, one a label, got {len(cuts)}"
    )
  got = (chances >= cuts).astype(np.int64)
  counts = [(right * got).sum(0), got.sum(0), right.sum(0)]
  micro = rates(*(count.sum() for count in counts))
  return {
    **{f"micro_{name}": float(value) for name, value in micro.items()},
    **{
      f"macro_{name}": float(values.mean())
      for name, values in rates(*counts).items()
    },
    "subset_accuracy": float((right == got).all(axis=1).mean()),
    **_average_precision(right, chances),
  }


def tune_thresholds(
  gold: ArrayLike, probabilities: ArrayLike
) -> Float[np.ndarray, " labels"]:
  """The thresholds with the best F1 of each label.

  All cuts between the probabilities of a label are tried, halfway between
  neighbours, and 0.5; of equally good ones the nearest to 0.5 is taken, the
  lower of two. A label that no row has keeps 0.5.

  Args:
    gold: 0 or 1, [rows, labels].
    probabilities: from 0 to 1, [rows, labels].

  Raises:
    UserError: as `evaluate`.
  """
  right, chances = _check(gold, probabilities)
  return np.array(
    [_best_threshold(*columns) for columns in zip(right.T, chances.T)]
  )


def _best_threshold(
  gold: Int[np.ndarray, " rows"], probabilities: Float[np.ndarray, " rows"]
) -> float:
  if not gold.any():
    return _USUAL
  order = np.argsort(probabilities)
  ordered = probabilities[order]
  distinct = np.unique(ordered)
  halfway = (np.concatenate([[0.0], distinct[:-1]]) + distinct) / 2
  cuts = np.append(halfway, _USUAL)
  below = np.searchsorted(ordered, cuts)
  gold_below = np.concatenate([[0], np.cumsum(gold[order])])[below]
  f1 = rates(gold.sum() - gold_below, len(gold) - below, gold.sum())["f1"]
  best = cuts[f1 == f1.max()]
  return float(min(best, key=lambda cut: (abs(cut - _USUAL), cut)))


def _average_precision(
  gold: Int[np.ndarray, "rows labels"],
  probabilities: Float[np.ndarray, "rows labels"],
) -> dict[str, float]:
  # Imported here: it takes over a second, for which those who only predict
  # need not wait.
  from sklearn.metrics import average_precision_score

  if not gold.any():
    return {"micro_average_precision": 0.0, "macro_average_precision": 0.0}
  values = [
    average_precision_score(*columns)
    for columns in zip(gold.T, probabilities.T)
    if columns[0].any()
  ]
  micro = average_precision_score(gold.ravel(), probabilities.ravel())
  return {
    "micro_average_precision": float(micro),
    "macro_average_precision": float(np.mean(values)),
  }


def _check(
  gold: ArrayLike, probabilities: ArrayLike
) -> tuple[Int[np.ndarray, "rows labels"], Float[np.ndarray, "rows labels"]]:
  checks.same_length(gold, probabilities)
  right = checks.zeros_and_ones(gold, "gold labels")
  chances = checks.numbers(probabilities, "probabilities", 2)
  checks.same_shape(right, chances)
  return right, chances
