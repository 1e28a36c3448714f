import numpy as np
import pytest
from scipy import stats

from bert_jax.tasks.targets.similarity import Similarity
from tests.errors import user_error


def vectors(*rows):
  return [np.array(row, np.float32) for row in rows]


def test_cosines_are_correlated_with_the_labels():
  rng = np.random.default_rng(0)
  answers = list(rng.normal(size=(20, 2, 4)).astype(np.float32))
  labels = rng.integers(0, 6, 20)
  records = [{"text": "a", "pair": "b", "label": str(x)} for x in labels]
  cosines = [
    a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    for a, b in np.array(answers, np.float64)
  ]
  assert Similarity().evaluate(records, answers) == pytest.approx(
    {
      "pearson": stats.pearsonr(cosines, labels).statistic,
      "spearman": stats.spearmanr(cosines, labels).statistic,
    }
  )


def test_pairs_are_found_among_all_different_ones():
  answers = vectors(
    [[1, 0, 0], [1, 0.1, 0]],
    [[0, 1, 0], [0, 0, 1]],
    [[0, 1, 0.1], [0, 1, 0]],
    # Text and pair are those of others: two pairs go with the last text.
    [[0, 1, 0.1], [1, 0.1, 0]],
  )
  records = [
    {"text": "a", "pair": "x"},
    {"text": "b", "pair": "y"},
    {"text": "c", "pair": "z"},
    {"text": "c", "pair": "x"},
  ]
  found = Similarity().evaluate(records, answers)
  # By rank a finds x; b finds z, x and y; c finds z, x (or y) and both.
  assert found["recall_at_1"] == pytest.approx((1 + 0 + 0.5 + 0.5) / 4)
  assert found["recall_at_5"] == 1
  assert found["mrr_at_10"] == pytest.approx((1 + 1 / 3 + 1 + 1) / 4)
  baselines = Similarity().baselines(records)
  assert baselines["recall_at_1_chance_baseline"] == pytest.approx(1 / 3)
  assert baselines["recall_at_5_chance_baseline"] == 1


def test_what_cannot_be_evaluated_is_said():
  answers = vectors([[1, 0], [0, 1]], [[1, 0], [0, 1]])
  for records, message in (
    ([{"text": "a"}, {"text": "b"}], "the field 'pair', a text"),
    (
      [{"text": "a", "pair": "b", "label": 1}, {"text": "a", "pair": "b"}],
      "expected the field 'label', a number",
    ),
  ):
    with user_error(message):
      Similarity().evaluate(records, answers)
