"""Metrics of labels against counts by hand."""

import numpy as np
import pytest

from bert_jax.tasks.metrics import labels
from tests.errors import user_error

NAMES = ("cat", "dog", "cow")
GOLD = ["cat", "cat", "cat", "dog", "dog", "cow"]
PREDICTED = ["cat", "cat", "dog", "dog", "cow", "cat"]


def ids(names, known=NAMES):
  return [known.index(name) for name in names]


def evaluate(gold, predicted, known=NAMES):
  return labels.evaluate(ids(gold, known), ids(predicted, known), len(known))


def test_metrics_of_three_labels():
  # Precision: cat 2/3, dog 1/2, cow 0; recall: 2/3, 1/2, 0.
  scores = evaluate(GOLD, PREDICTED)
  counts = np.array([[2, 1, 0], [0, 1, 1], [1, 0, 0]])
  gold, predicted = counts.sum(1), counts.sum(0)
  covariance = 6 * 3 - gold @ predicted
  assert scores == pytest.approx(
    {
      "accuracy": 3 / 6,
      "macro_precision": (2 / 3 + 1 / 2) / 3,
      "macro_recall": (2 / 3 + 1 / 2) / 3,
      "macro_f1": (2 / 3 + 1 / 2) / 3,
      "mcc": covariance
      / np.sqrt((36 - gold @ gold) * (36 - predicted @ predicted)),
    }
  )
  assert all(type(value) is float for value in scores.values())
  matrix = labels.confusion_matrix(ids(GOLD), ids(PREDICTED), len(NAMES))
  np.testing.assert_array_equal(matrix, counts)
  by_label = labels.per_label(ids(GOLD), ids(PREDICTED), NAMES)
  assert by_label["cat"] == pytest.approx(
    {"precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3, "support": 3}
  )


def test_of_two_labels_the_second_is_the_positive_one():
  gold, predicted = list("nnyyy"), list("nyyyn")
  scores = evaluate(gold, predicted, ["n", "y"])
  assert scores["f1"] == pytest.approx(2 / 3)
  assert evaluate(gold, predicted, ["y", "n"])["f1"] == pytest.approx(1 / 2)
  # (2 * 1 - 1 * 1) / sqrt(3 * 3 * 2 * 2)
  assert scores["mcc"] == pytest.approx(1 / 6)


def test_a_label_that_no_row_has_or_got_is_left_out_of_means():
  scores = evaluate(GOLD, PREDICTED)
  more = ["ant", *NAMES, "bee"]
  assert evaluate(GOLD, PREDICTED, more) == scores
  given = ids(GOLD, more), ids(PREDICTED, more)
  assert labels.confusion_matrix(*given, 5).shape == (5, 5)
  assert labels.per_label(*given, more)["bee"] == {
    "precision": 0,
    "recall": 0,
    "f1": 0,
    "support": 0,
  }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
  ("gold", "predicted", "accuracy"),
  [("n", "n", 1), ("n", "y", 0), ("nnn", "yyy", 0), ("nyn", "yyy", 1 / 3)],
)
def test_one_label_alone_gives_no_warning(gold, predicted, accuracy):
  scores = evaluate(gold, predicted, ["n", "y"])
  assert scores["accuracy"] == pytest.approx(accuracy)
  assert scores["mcc"] == 0
  if not accuracy:
    assert scores["macro_precision"] == scores["macro_f1"] == 0


@pytest.mark.parametrize(
  ("gold", "predicted", "message"),
  [
    ([], [], "nothing to evaluate"),
    ([0], [0, 1], "answers for 1 rows, got 2"),
    ([0], [3], "expected ids of labels from 0 to 2, got 3 to 3"),
    ([0, -1], [0, 0], "expected ids of labels from 0 to 2, got -1 to 0"),
  ],
)
def test_what_cannot_be_evaluated_is_an_error(gold, predicted, message):
  for function, known in (
    (labels.evaluate, len(NAMES)),
    (labels.confusion_matrix, len(NAMES)),
    (labels.per_label, NAMES),
  ):
    with user_error(message):
      function(gold, predicted, known)
