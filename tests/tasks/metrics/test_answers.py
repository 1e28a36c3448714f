"""Metrics of answers by hand.

The comparison with the official script's port is in tests/parity.
"""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from bert_jax.tasks.metrics import answers
from tests.errors import user_error


@pytest.mark.parametrize(
  ("text", "expected"),
  [
    ("The  Cat's\tA-b, an\nAnt.", "cats ab ant"),
    ("theatre", "theatre"),
    ("the, a. AN!", ""),
    ("", ""),
    ("Łódź — 犬。", "łódź — 犬。"),
    ("\u3000É\u00a0x", "É x".lower()),
  ],
)
def test_normalize(text, expected):
  assert answers.normalize(text) == expected


@pytest.mark.parametrize(
  ("gold", "predicted", "exact", "f1"),
  [
    (["the cat"], "Cat!", 1, 1),
    (["black cat", "a dog"], "dog", 1, 1),
    # Of two tokens and three, one is common.
    (["black cat"], "cat sat down", 0, 2 / 5),
    # A token counts as often as both have it.
    (["so so"], "so so so", 0, 4 / 5),
    (["black cat", "cat down"], "cat sat down", 0, 4 / 5),
    (["cat"], "", 0, 0),
    ([], "", 1, 1),
    ([], "the", 1, 1),
    ([], "cat", 0, 0),
    # Of answers with nothing left the others are enough.
    (["the", "cat"], "", 0, 0),
    (["the"], "", 1, 1),
    # No white space, no tokens: as the script has it.
    (["北京大学"], "北京", 0, 0),
  ],
)
def test_one_answer(gold, predicted, exact, f1):
  assert answers.exact(gold, predicted) == exact
  assert answers.f1(gold, predicted) == pytest.approx(f1)


GOLD = [["cat"], ["black dog"], [], []]
PREDICTED = ["the cat", "dog", "", "cow"]
NULLS = [0.1, 0.6, 0.2, 0.4]


def test_metrics():
  assert answers.evaluate(GOLD, PREDICTED) == pytest.approx(
    {
      "exact": 2 / 4,
      "f1": (1 + 2 / 3 + 1) / 4,
      "total": 4,
      "has_answer_exact": 1 / 2,
      "has_answer_f1": (1 + 2 / 3) / 2,
      "has_answer_total": 2,
      "no_answer_exact": 1 / 2,
      "no_answer_f1": 1 / 2,
      "no_answer_total": 2,
    }
  )
  assert answers.evaluate(GOLD[:1], PREDICTED[:1]).keys() == {
    *("exact", "f1", "total"),
    *("has_answer_exact", "has_answer_f1", "has_answer_total"),
  }


def test_null_scores_show_the_best_thresholds():
  plain = answers.evaluate(GOLD, PREDICTED)
  scores = answers.evaluate(GOLD, PREDICTED, NULLS)
  # Answering the first question alone leaves both empty ones right.
  best = {
    "best_exact": 3 / 4,
    "best_exact_threshold": 0.1,
    "best_f1": 3 / 4,
    "best_f1_threshold": 0.1,
  }
  assert scores == {**plain, **best}
  scores = answers.evaluate(GOLD, PREDICTED, NULLS, null_threshold=0.1)
  assert scores["f1"] == scores["best_f1"]
  assert scores["no_answer_f1"] == 1
  assert scores["has_answer_f1"] == 1 / 2
  # Nothing is better than no answer.
  scores = answers.evaluate([[], []], ["a cat", "a dog"], [-3, -4])
  assert scores["best_f1"] == 1
  assert scores["best_f1_threshold"] == 0


def test_tuned_threshold():
  assert answers.tune_null_threshold(GOLD, PREDICTED, NULLS) == pytest.approx(
    (0.2 + 0.4) / 2
  )
  # All answered, though one has nothing to gain by it; none answered.
  tune = answers.tune_null_threshold
  assert tune([["cat"], ["dog"]], ["cat", "cow"], [-5, 2.5]) == 3.5
  assert tune([[], []], ["cat", "cow"], [-5, 2.5]) == -6


WORDS = st.sampled_from(["", "cat", "dog", "cat dog"])
QUESTIONS = st.lists(
  st.tuples(
    st.lists(WORDS.filter(bool), max_size=2), WORDS, st.integers(-2, 2)
  ),
  min_size=1,
  max_size=8,
)


@hypothesis.given(QUESTIONS)
@hypothesis.settings(max_examples=150)
def test_no_threshold_is_better_than_the_tuned_one(questions):
  gold, predicted, nulls = zip(*questions)

  def at(threshold):
    return answers.evaluate(gold, predicted, nulls, threshold)["f1"]

  tuned = answers.tune_null_threshold(gold, predicted, nulls)
  every = [at(threshold) for threshold in np.arange(-3, 3, 0.25)]
  assert at(tuned) == pytest.approx(max(every))
  # With equal null scores the script's best may be out of reach.
  best = answers.evaluate(gold, predicted, nulls)["best_f1"]
  assert best >= at(tuned) - 1e-12
  if len(set(nulls)) == len(nulls):
    assert best == pytest.approx(at(tuned))


@pytest.mark.parametrize(
  ("gold", "predicted", "nulls", "message"),
  [
    ([], [], [], "nothing to evaluate"),
    (GOLD, PREDICTED[:1], NULLS, "answers for 4 rows, got 1"),
    (GOLD, PREDICTED, NULLS[:1], "null scores for 4 rows, got 1"),
    (GOLD, PREDICTED, [0, 0, 0, float("nan")], "null scores: 1 of 4 are NaN"),
  ],
)
def test_what_cannot_be_evaluated_is_an_error(gold, predicted, nulls, message):
  for function in (answers.evaluate, answers.tune_null_threshold):
    with user_error(message):
      function(gold, predicted, nulls)
