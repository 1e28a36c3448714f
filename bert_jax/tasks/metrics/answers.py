"""Metrics of answers to questions, as SQuAD's official scripts have them.

The rules are those of evaluate-v2.0.py
(https://rajpurkar.github.io/SQuAD-explorer), for every language alike: text is
split at white space alone, so an answer in Chinese is one token. Scores go
from 0 to 1, where the scripts print percent. On questions that all have
answers these are the scores of SQuAD 1.1 too, except where an answer has
nothing but articles and punctuation.
"""

import collections
import re
import string
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from bert_jax.tasks.metrics import checks

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)

Gold = Sequence[Sequence[str]]
"""For each question the texts of its answers; none where it has no answer."""


def normalize(text: str) -> str:
  """Lower case, without ASCII punctuation, articles and extra space."""
  text = text.lower().translate(_PUNCTUATION)
  return " ".join(_ARTICLES.sub(" ", text).split())


def exact(gold: Sequence[str], predicted: str) -> float:
  """1 if the answer is one of the gold ones, 0 otherwise.

  Args:
    gold: the texts of the answers; none where there is no answer.
    predicted: the text, empty for no answer.
  """
  return float(normalize(predicted) in _usable(gold))


def f1(gold: Sequence[str], predicted: str) -> float:
  """The F1 of the answer's tokens against the best of the gold ones.

  Args:
    gold: the texts of the answers; none where there is no answer.
    predicted: the text, empty for no answer.
  """
  got = normalize(predicted).split()
  return max(_overlap(answer.split(), got) for answer in _usable(gold))


def evaluate(
  gold: Gold,
  predicted: Sequence[str],
  null_scores: ArrayLike | None = None,
  null_threshold: float | None = None,
) -> dict[str, float]:
  """How well questions are answered.

  Args:
    gold: for each question the texts of its answers.
    predicted: the text that each question got, empty for no answer.
    null_scores: how much speaks against there being an answer, [questions].
    null_threshold: answers whose null score is greater are taken as empty;
      None keeps all.

  Returns:
    `exact` and `f1`, means over the `total` questions; `has_answer_exact`,
    `has_answer_f1` and `has_answer_total` of those that have an answer,
    `no_answer_...` of the others, each where there are such; given null
    scores also `best_exact`, `best_f1`, `best_exact_threshold` and
    `best_f1_threshold`: the best that a null threshold makes of `predicted`.
    These last are the script's: it takes questions with equal null scores one
    after another, as given, and 0 for the threshold under which nothing is
    answered; `tune_null_threshold` does neither.

  Raises:
    UserError: there are no questions, not as many of each, or a null score is
      NaN or infinite.
  """
  assert null_threshold is None or null_scores is not None
  checks.same_length(gold, predicted)
  has_answer = np.array([len(answers) > 0 for answers in gold])
  values = {
    "exact": np.array(list(map(exact, gold, predicted))),
    "f1": np.array(list(map(f1, gold, predicted))),
  }
  scores: dict[str, float] = {}
  if null_scores is not None:
    nulls = _check_null_scores(gold, null_scores)
    order = np.argsort(nulls, kind="stable")
    for name, kept in values.items():
      totals = _totals(has_answer, predicted, kept, order)
      best = int(totals.argmax())
      scores[f"best_{name}"] = float(totals[best]) / len(gold)
      threshold = float(nulls[order[best - 1]]) if best else 0.0
      scores[f"best_{name}_threshold"] = threshold
    if null_threshold is not None:
      emptied = nulls > null_threshold
      for name, kept in values.items():
        values[name] = np.where(emptied, ~has_answer, kept)
  for prefix, chosen in (
    ("", np.ones_like(has_answer)),
    ("has_answer_", has_answer),
    ("no_answer_", ~has_answer),
  ):
    if chosen.any():
      for name, each in values.items():
        scores[prefix + name] = float(each[chosen].mean())
      scores[f"{prefix}total"] = float(chosen.sum())
  return scores


def tune_null_threshold(
  gold: Gold, predicted: Sequence[str], null_scores: ArrayLike
) -> float:
  """The null threshold with the best F1.

  Halfway between the null scores of two questions, or 1 below the least, or 1
  above the greatest; of equally good ones the highest, which keeps most
  answers.

  Args:
    gold: for each question the texts of its answers.
    predicted: the best answer to each question, empty only where there is
      none at all.
    null_scores: how much speaks against there being an answer, [questions].

  Raises:
    UserError: as `evaluate`.
  """
  checks.same_length(gold, predicted)
  nulls = _check_null_scores(gold, null_scores)
  has_answer = np.array([len(answers) > 0 for answers in gold])
  kept = np.array(list(map(f1, gold, predicted)))
  order = np.argsort(nulls, kind="stable")
  distinct = np.unique(nulls)
  cuts = np.concatenate(
    [[distinct[0] - 1], (distinct[:-1] + distinct[1:]) / 2, [distinct[-1] + 1]]
  )
  answered = np.searchsorted(nulls[order], cuts, side="right")
  totals = _totals(has_answer, predicted, kept, order)[answered]
  return float(cuts[np.flatnonzero(totals == totals.max())[-1]])


def _usable(gold: Sequence[str]) -> list[str]:
  """The answers, normalized; the empty one where none is left."""
  return list(filter(None, map(normalize, gold))) or [""]


def _overlap(gold: Sequence[str], predicted: Sequence[str]) -> float:
  """F1 of two bags of tokens."""
  if not gold or not predicted:
    return float(gold == predicted)
  common = collections.Counter(gold) & collections.Counter(predicted)
  if not common:
    return 0.0
  # Not 2c / (g + p), so that rounding, and with it ties of thresholds, are
  # the script's.
  precision = common.total() / len(predicted)
  recall = common.total() / len(gold)
  return 2 * precision * recall / (precision + recall)


def _check_null_scores(
  gold: Gold, null_scores: ArrayLike
) -> Float[np.ndarray, " questions"]:
  nulls = checks.numbers(null_scores, "null scores", 1)
  checks.same_length(gold, nulls, "null scores")
  return nulls


def _totals(
  has_answer: Bool[np.ndarray, " questions"],
  predicted: Sequence[str],
  kept: Float[np.ndarray, " questions"],
  order: Int[np.ndarray, " questions"],
) -> Float[np.ndarray, " questions+1"]:
  """The summed score if only the first n questions of `order` are answered."""
  lost = np.array([float(bool(answer)) for answer in predicted])
  change = np.where(has_answer, kept, -lost)[order]
  return np.cumsum(np.concatenate([[np.sum(~has_answer)], change]))
