"""Metrics of one label a row, by scikit-learn.

There is no micro average: with one label a row, micro precision, recall and
F1 all are the accuracy.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from bert_jax.settings import UserError
from bert_jax.tasks.metrics import checks

# scikit-learn is imported where it is used: it takes over a second, which
# prediction alone need not wait for.


def accuracy(correct: ArrayLike) -> float:
  """The share of rows that are right, from whether each of them is."""
  return float(np.mean(correct))


def majority_share(ids: ArrayLike, weights: ArrayLike | None = None) -> float:
  """The accuracy of always giving the most frequent id, by weight."""
  counts = np.bincount(np.ravel(ids), weights)
  return float(counts.max(initial=0) / max(counts.sum(), 1))


def evaluate(
  gold: ArrayLike, predicted: ArrayLike, count: int
) -> dict[str, float]:
  """How well labels are predicted.

  Args:
    gold: the id of each row's right label, [rows].
    predicted: the id that each row got, [rows].
    count: the number of labels.

  Returns:
    `accuracy`; `macro_precision`, `macro_recall` and `macro_f1`, the means
    over the labels that some row has or got, as scikit-learn takes them; `mcc`,
    Matthews' correlation, from -1 to 1, 0 where it is undefined; of two labels
    also `f1`, that of the second one, as GLUE has it for MRPC and QQP.

  Raises:
    UserError: there are no rows, the lengths differ, or an id is unknown.
  """
  from sklearn import metrics

  right, got = _ids(gold, predicted, count)
  precision, recall, f1, _ = metrics.precision_recall_fscore_support(
    right, got, average="macro", zero_division=0.0
  )
  found = {
    "accuracy": accuracy(right == got),
    "macro_precision": precision,
    "macro_recall": recall,
    "macro_f1": f1,
    "mcc": 0.0,
  }
  if len({*right.tolist(), *got.tolist()}) > 1:  # Else scikit-learn warns.
    found["mcc"] = metrics.matthews_corrcoef(right, got)
  if count == 2:
    found["f1"] = _by_label(right, got, count)[2][1]
  return {name: float(value) for name, value in found.items()}


def confusion_matrix(
  gold: ArrayLike, predicted: ArrayLike, count: int
) -> Int[np.ndarray, "labels labels"]:
  """Counts of rows, int64: by row the gold label, by column the predicted.

  Raises:
    UserError: as `evaluate`.
  """
  from sklearn import metrics

  right, got = _ids(gold, predicted, count)
  return metrics.confusion_matrix(right, got, labels=np.arange(count))


def per_label(
  gold: ArrayLike, predicted: ArrayLike, labels: Sequence[str]
) -> dict[str, dict[str, float]]:
  """For each label its `precision`, `recall`, `f1` and `support`.

  The support is the number of rows with that gold label; what would divide by
  zero is 0.

  Raises:
    UserError: as `evaluate`.
  """
  columns = _by_label(*_ids(gold, predicted, len(labels)), len(labels))
  names = ("precision", "recall", "f1", "support")
  return {
    label: dict(zip(names, map(float, row)))
    for label, row in zip(labels, zip(*columns))
  }


def _by_label(
  gold: np.ndarray, predicted: np.ndarray, count: int
) -> tuple[np.ndarray, ...]:
  """Precision, recall, F1 and support, [labels] each."""
  from sklearn import metrics

  return metrics.precision_recall_fscore_support(
    gold, predicted, labels=np.arange(count), zero_division=0.0
  )


def _ids(
  gold: ArrayLike, predicted: ArrayLike, count: int
) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
  right, got = np.asarray(gold, int), np.asarray(predicted, int)
  checks.same_length(right, got)
  for ids in (right, got):
    if not 0 <= ids.min() <= ids.max() < count:
      raise UserError(
        f"expected ids of labels from 0 to {count - 1}, got {ids.min()} to"
        f" {ids.max()}"
      )
  return right, got
