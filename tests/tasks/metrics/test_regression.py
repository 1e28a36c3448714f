"""Metrics of values against formulas in NumPy."""

import numpy as np
import pytest

from bert_jax.tasks.metrics import regression
from tests.errors import user_error

GOLD = [[1.0], [2.0], [3.0], [4.0]]


def test_metrics_of_one_target():
  got = [[1.0], [2.0], [5.0], [4.5]]
  scores = regression.evaluate(GOLD, got, ["score"])
  assert scores == pytest.approx(
    {
      "pearson": np.corrcoef(np.ravel(GOLD), np.ravel(got))[0, 1],
      # Ranks 1 2 4 3: 1 - 6 * 2 / (4 * 15).
      "spearman": 0.8,
      "rmse": np.sqrt(4.25 / 4),
      "mae": 2.5 / 4,
    }
  )


def test_ties_are_ranked_in_their_middle():
  scores = regression.evaluate(GOLD, [[0.0], [0.0], [7.0], [9.0]], ["score"])
  expected = np.corrcoef([1, 2, 3, 4], [1.5, 1.5, 3, 4])[0, 1]
  assert scores["spearman"] == pytest.approx(expected)


def test_several_targets_are_averaged():
  gold = np.random.default_rng(0).normal(size=[20, 2])
  got = gold + np.random.default_rng(1).normal(size=[20, 2])
  scores = regression.evaluate(gold, got, ["joy", "anger"])
  for column, name in enumerate(["joy", "anger"]):
    alone = regression.evaluate(gold[:, [column]], got[:, [column]], [name])
    assert {k: scores[f"{k}_{name}"] for k in alone} == alone
  mean = (scores["rmse_joy"] + scores["rmse_anger"]) / 2
  assert scores["rmse"] == pytest.approx(mean)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
  ("gold", "got"),
  [
    (GOLD, [[0.1]] * 4),
    ([[3.3]] * 4, GOLD),
    ([[1.0]], [[2.0]]),
    (GOLD, [[0.0]] * 3 + [[1e-300]]),
  ],
)
def test_constants_correlate_with_nothing(gold, got):
  scores = regression.evaluate(gold, got, ["score"])
  if got[-1] == got[0] or gold[-1] == gold[0]:
    assert scores["pearson"] == scores["spearman"] == 0
  assert np.isfinite([*scores.values()]).all()


@pytest.mark.parametrize(
  ("gold", "got", "message"),
  [
    ([], [], "nothing to evaluate"),
    (GOLD, GOLD[:3], "answers for 4 rows, got 3"),
    (GOLD, [[1.0]] * 3 + [[np.inf]], "predicted values: 1 of 4 are NaN"),
    (GOLD, [[1.0, 2.0]] * 4, r"shape \(4, 1\), got \(4, 2\)"),
    ([[1.0, 2.0]], [[1.0, 2.0]], "expected 1 values a row"),
    ([["a"]], [[1.0]], "gold values: expected rows of numbers"),
  ],
)
def test_what_cannot_be_evaluated_is_an_error(gold, got, message):
  with user_error(message):
    regression.evaluate(gold, got, ["score"])
