"""Metrics of several labels a row, by hand and by brute force."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from bert_jax.tasks.metrics import multi_label
from tests.errors import user_error

GOLD = [[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 0, 0]]
CHANCES = [[0.9, 0.2, 0.1], [0.4, 0.8, 0.1], [0.6, 0.5, 0.6], [0.1, 0.1, 0.1]]


def f1(gold, predicted):
  """F1 of two lists of 0 and 1, one element at a time."""
  both = sum(1 for g, p in zip(gold, predicted) if g and p)
  return 2 * both / max(sum(gold) + sum(predicted), 1)


def test_metrics():
  # Predicted: a: rows 0, 2; b: rows 1, 2; c: row 2.
  scores = multi_label.evaluate(GOLD, CHANCES, [0.5, 0.5, 0.5])
  assert scores == pytest.approx(
    {
      "micro_precision": 3 / 5,
      "micro_recall": 3 / 4,
      "micro_f1": 6 / 9,
      "macro_precision": (1 / 2 + 1 + 0) / 3,
      "macro_recall": (1 / 2 + 1 + 0) / 3,
      "macro_f1": (1 / 2 + 1 + 0) / 3,
      "subset_accuracy": 2 / 4,
      # a: the right ones are first and third; b: first and second.
      "macro_average_precision": ((1 + 2 / 3) / 2 + 1) / 2,
      # Right: first, second, fifth (after two of 0.6) and sixth.
      "micro_average_precision": (1 + 1 + 3 / 5 + 4 / 6) / 4,
    }
  )
  lower = multi_label.evaluate(GOLD, CHANCES, [0.4, 0.5, 0.7])
  assert lower["micro_recall"] == 1
  assert lower["subset_accuracy"] == 3 / 4


@pytest.mark.filterwarnings("error")
def test_no_label_at_all_gives_zeros_and_no_warning():
  scores = multi_label.evaluate(np.zeros([3, 2]), np.zeros([3, 2]), [0.5, 0.5])
  assert scores.pop("subset_accuracy") == 1
  assert set(scores.values()) == {0}


def test_a_single_label_is_no_special_case():
  scores = multi_label.evaluate([[1], [0], [0]], [[0.9], [0.8], [0.1]], [0.5])
  assert scores["macro_f1"] == scores["micro_f1"] == pytest.approx(2 / 3)
  assert scores["micro_precision"] == 1 / 2


def test_thresholds():
  # a: 0.25 takes in row 1, which 0.5 leaves out, at the price of row 2;
  # 0.75 gives up row 1; b: 0.5 is as good as any; c: no row has it.
  tuned = multi_label.tune_thresholds(GOLD, CHANCES)
  np.testing.assert_allclose(tuned, [0.25, 0.5, 0.5])
  # A cut below all is tried too; of equally good ones the nearest to 0.5 wins.
  tuned = multi_label.tune_thresholds(
    [[1, 1], [1, 0], [1, 1]], [[0.3, 0.9], [0.2, 0.8], [0.4, 0.9]]
  )
  np.testing.assert_allclose(tuned, [0.1, 0.85])


# Few values, so that there are ties.
@hypothesis.given(
  st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from([0, 0.2, 0.5, 0.7, 0.75, 1])),
    min_size=1,
    max_size=8,
  )
)
@hypothesis.settings(max_examples=200)
def test_no_threshold_is_better(rows):
  gold, chances = zip(*rows)

  def at(cut):
    return f1(gold, [chance >= cut for chance in chances])

  columns = np.array([gold]).T, np.array([chances], np.float32).T
  (tuned,) = multi_label.tune_thresholds(*columns)
  scores = multi_label.evaluate(*columns, [tuned])
  assert scores["micro_f1"] == pytest.approx(at(tuned))
  every = [at(cut) for cut in np.linspace(0, 1, 101)]
  assert at(tuned) == max(every)
  if at(0.5) == max(every):
    assert tuned == 0.5


@pytest.mark.parametrize(
  ("gold", "chances", "cuts", "message"),
  [
    ([], [], [], "nothing to evaluate"),
    ([[0, 1]], [[0.5]], [0.5, 0.5], r"shape \(1, 2\), got \(1, 1\)"),
    ([[0, 1]], [[0.5, 0.5]] * 2, [0.5, 0.5], "answers for 1 rows, got 2"),
    ([[0, 1]], [[0.5, np.nan]], [0.5, 0.5], "1 of 2 are NaN"),
    ([[0, 2]], [[0.5, 0.5]], [0.5, 0.5], "expected 0 and 1 only"),
    ([[0, 1]], [[0.5, 0.5]], [0.5], "expected 2 thresholds"),
    ([0, 1], [0.5, 0.5], [0.5], "expected 2 dimensions"),
    ([["x"]], [[0.5]], [0.5], "expected rows of numbers"),
  ],
)
def test_what_cannot_be_evaluated_is_an_error(gold, chances, cuts, message):
  with user_error(message):
    multi_label.evaluate(gold, chances, cuts)
