"""Scores of one label a row, by scikit-learn.

There is no micro average: with one label a row, micro precision, recall and
F1 all are the accuracy.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from bert_jax.settings import UserError
from bert_jax.tasks.scores import checks

# scikit-learn is imported where it is used: it takes over a second, which
# those who only predict need not wait for.


def score(
  gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> dict[str, float]:
  """How well labels are predicted.

  Args:
    gold: the right label of each row.
    predicted: the label that each row got.
    labels: all that there are.

  Returns:
    `accuracy`; `macro_precision`, `macro_recall` and `macro_f1`, the means
    over the labels that some row has or got, as scikit-learn takes them; `mcc`,
    Matthews' correlation, from -1 to 1, 0 where it is undefined; of two labels
    also `f1`, that of the second one, as GLUE has it for MRPC and QQP.

  Raises:
    UserError: there are no rows, not as many of both, or a label is unknown.
  """
  from sklearn import metrics

  right, got = _ids(gold, predicted, labels)
  macro = metrics.precision_recall_fscore_support(
    right, got, average="macro", zero_division=0.0
  )
  scores = {
    "accuracy": metrics.accuracy_score(right, got),
    "macro_precision": macro[0],
    "macro_recall": macro[1],
    "macro_f1": macro[2],
    "mcc": 0.0,
  }
  if len({*gold, *predicted}) > 1:  # Otherwise scikit-learn warns.
    scores["mcc"] = metrics.matthews_corrcoef(right, got)
  if len(labels) == 2:
    scores["f1"] = per_label(gold, predicted, labels)[labels[1]]["f1"]
  return {name: float(value) for name, value in scores.items()}


def confusion_matrix(
  gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> Int[np.ndarray, "labels labels"]:
  """Counts of rows, int64: by row the gold label, by column the predicted.

  Raises:
    UserError: as `score`.
  """
  from sklearn import metrics

  right, got = _ids(gold, predicted, labels)
  return metrics.confusion_matrix(right, got, labels=np.arange(len(labels)))


def per_label(
  gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> dict[str, dict[str, float]]:
  """For each label its `precision`, `recall`, `f1` and `support`.

  The support is the number of rows with that gold label; what would divide by
  zero is 0.

  Raises:
    UserError: as `score`.
  """
  from sklearn import metrics

  right, got = _ids(gold, predicted, labels)
  columns = metrics.precision_recall_fscore_support(
    right, got, labels=np.arange(len(labels)), zero_division=0.0
  )
  names = ("precision", "recall", "f1", "support")
  return {
    label: dict(zip(names, map(float, row)))
    for label, row in zip(labels, zip(*columns))
  }


def _ids(
  gold: Sequence[str], predicted: Sequence[str], labels: Sequence[str]
) -> tuple[Int[np.ndarray, " rows"], Int[np.ndarray, " rows"]]:
  checks.same_length(gold, predicted)
  ids = {label: number for number, label in enumerate(labels)}
  if unknown := {*gold, *predicted} - ids.keys():
    raise UserError(
      f"unknown label {min(unknown, key=str)!r}; known: {', '.join(labels)}"
    )
  return (
    np.array([ids[label] for label in gold]),
    np.array([ids[label] for label in predicted]),
  )
