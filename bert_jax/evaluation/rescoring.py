"""N-best lists of a speech recognizer, rescored by a language model.

A hypothesis' total is

    score + weights.model * model score + weights.words * number of words
      + weights.lm * lm_score

where `score` is the recognizer's, and `lm_score` the part of it that its own
language model gives, if the lists have it: what another model knows better is
not counted twice. The weights are those with the fewest word
errors on held-out lists, found one at a time by the exact line search of Och
(2003), "Minimum Error Rate Training in Statistical Machine Translation".
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bert_jax.data.sources.labelled import open_text, parse_json
from bert_jax.settings import UserError

_ROUNDS = 20
# Line searches find local minima; each starts from one of these.
_STARTS = ((0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0), (1.0, 0.0, -1.0))

Values = Float[np.ndarray, " hypotheses"]


@dataclasses.dataclass(frozen=True, eq=False)
class NBest:
  """The hypotheses for one utterance.

  Attributes:
    where: the file and line, for messages.
    record: as it was read.
    texts: the hypotheses.
    scores: the recognizer's, the greater the better.
    lm_scores: those of its language model alone; None if they are not known.
    reference: what was said; None if it is not known.
  """

  where: str
  record: Mapping[str, Any]
  texts: tuple[str, ...]
  scores: Values
  lm_scores: Values | None
  reference: str | None

  @functools.cached_property
  def words(self) -> Values:
    """The number of words of each hypothesis."""
    return np.array([len(text.split()) for text in self.texts], float)

  @functools.cached_property
  def errors(self) -> Int[np.ndarray, " hypotheses"]:
    """The word errors of each hypothesis."""
    gold = (self.reference or "").split()
    return np.array([word_errors(gold, text.split()) for text in self.texts])


class Weights(NamedTuple):
  """The weights of what is added to the recognizer's score.

  Attributes:
    model: of the language model's score.
    words: of the number of words.
    lm: of the score of the recognizer's language model, which is in its score
      already; with -1 it is taken out.
  """

  model: float
  words: float
  lm: float = 0.0


def read(path: str, need_references: bool = False) -> list[NBest]:
  """Reads n-best lists: JSON lines.

  >>> {"hypotheses": [{"text": "a cat", "score": -3.2}], "reference": "a cat"}

  Further keys are kept. Scores may be logarithms of probabilities, or any other
  numbers that are greater for better hypotheses. All hypotheses of a file may
  have an `lm_score` too, the part of `score` that the recognizer's language
  model gives.

  Args:
    path: the file, maybe gzipped.
    need_references: whether each list must have one.

  Raises:
    UserError: the file cannot be read, has no lists, or a list is not of this
      form.
  """
  found = []
  with open_text(path) as file:
    for number, line in enumerate(file, 1):
      if line.strip():
        found.append(_parse(line, f"{path}:{number}", need_references))
  if not found:
    raise UserError(f"{path}: there are no n-best lists")
  have = [nbest.reference is not None for nbest in found]
  if any(have) and not all(have):
    where = found[have.index(False)].where
    raise UserError(f"{where}: no `reference`, which other lists have")
  have = [nbest.lm_scores is not None for nbest in found]
  if any(have) and not all(have):
    where = found[have.index(False)].where
    raise UserError(f"{where}: no `lm_score`, which other lists have")
  return found


def _parse(line: str, where: str, need_reference: bool) -> NBest:
  try:
    record = parse_json(line)
  except (ValueError, RecursionError) as error:
    reason = getattr(error, "msg", error)
    raise UserError(f"{where}: not JSON ({reason})") from None
  hypotheses = record.get("hypotheses") if isinstance(record, dict) else None
  if not isinstance(hypotheses, list) or not hypotheses:
    raise UserError(
      f"{where}: expected an object with `hypotheses`, a list of at least one,"
      f" got {line.strip()[:60]!r}"
    )
  texts, scores, lm_scores = [], [], []
  for number, item in enumerate(hypotheses):
    place = f"{where}: hypotheses[{number}]"
    text = item.get("text") if isinstance(item, dict) else None
    if not isinstance(text, str):
      raise UserError(f"{place}: expected a `text`, got {item!r:.60}")
    texts.append(text)
    scores.append(_number(item, "score", place))
    if "lm_score" in hypotheses[0]:
      lm_scores.append(_number(item, "lm_score", place))
    elif "lm_score" in item:
      raise UserError(f"{place}: an `lm_score`, which the first has not")
  reference = record.get("reference")
  if reference is not None and not isinstance(reference, str):
    raise UserError(f"{where}: reference: expected a text, got {reference!r}")
  if reference is None and need_reference:
    raise UserError(f"{where}: no `reference`, which tuning needs")
  known = np.array(lm_scores) if lm_scores else None
  return NBest(where, record, tuple(texts), np.array(scores), known, reference)


def _number(item: Mapping[str, Any], key: str, place: str) -> float:
  value = item.get(key)
  if type(value) not in (int, float) or not math.isfinite(value):
    raise UserError(
      f"{place}: expected a `{key}`, a finite number, got {value!r:.60}"
    )
  return float(value)


def word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
  """The fewest words to substitute, insert and delete."""
  row = list(range(len(hypothesis) + 1))
  for i, word in enumerate(reference, 1):
    diagonal, row[0] = row[0], i
    for j, other in enumerate(hypothesis, 1):
      cost = min(row[j] + 1, row[j - 1] + 1, diagonal + (word != other))
      diagonal, row[j] = row[j], cost
  return row[-1]


def score(
  lists: Sequence[NBest], model: Callable[[list[str]], Sequence[float]]
) -> list[Values]:
  """The model's score of each hypothesis; 0 for one without words.

  Args:
    lists: the hypotheses; equal texts are scored once.
    model: from texts to their scores.
  """
  texts = dict.fromkeys(text for nbest in lists for text in nbest.texts)
  given = [text for text in texts if text.strip()]
  known = dict(zip(given, model(given), strict=True))
  return [
    np.array([known.get(text, 0.0) for text in nbest.texts]) for nbest in lists
  ]


def totals(nbest: NBest, model_scores: Values, weights: Weights) -> Values:
  """What the best hypothesis has the most of."""
  features = _features(nbest, model_scores)
  return nbest.scores + sum(x * y for x, y in zip(weights, features))


def _features(nbest: NBest, model_scores: Values) -> list[Values]:
  """What the weights are of, without the last where it is not known."""
  known = [] if nbest.lm_scores is None else [nbest.lm_scores]
  return [model_scores, nbest.words, *known]


def error_rate(lists: Sequence[NBest], chosen: Iterable[int]) -> float:
  """The word error rate of the hypotheses at these places, of all lists."""
  errors = sum(int(x.errors[place]) for x, place in zip(lists, chosen))
  return errors / max(_reference_words(lists), 1)


def oracle(lists: Sequence[NBest]) -> list[int]:
  """The places of the hypotheses with the fewest errors."""
  return [int(nbest.errors.argmin()) for nbest in lists]


def best(
  lists: Sequence[NBest], model_scores: Sequence[Values], weights: Weights
) -> list[int]:
  """The places of the hypotheses with the greatest totals."""
  return [
    int(totals(nbest, scores, weights).argmax())
    for nbest, scores in zip(lists, model_scores)
  ]


def _reference_words(lists: Sequence[NBest]) -> int:
  return sum(len((nbest.reference or "").split()) for nbest in lists)


def tune(lists: Sequence[NBest], model_scores: Sequence[Values]) -> Weights:
  """The weights with the fewest word errors on some lists; deterministic.

  Args:
    lists: held out, with references.
    model_scores: from `score`.
  """
  errors = [nbest.errors for nbest in lists]
  base = [nbest.scores for nbest in lists]
  features = list(zip(*map(_features, lists, model_scores)))
  # A language model is never held against a hypothesis.
  lowest = (0.0, -math.inf, -math.inf)
  tried: list[tuple[int, tuple[float, ...]]] = []
  for start in _STARTS:
    weights, fewest = [*start[: len(features)]], math.inf
    for _ in range(_ROUNDS):
      for own in range(len(features)):
        others = [*weights[:own], 0.0, *weights[own + 1 :]]
        offsets = [
          sum((w * y for w, y in zip(others, given)), x)
          for x, *given in zip(base, *features)
        ]
        weights[own], found = _line_search(
          offsets, features[own], errors, lowest[own]
        )
      if found >= fewest:
        break
      fewest = found
      tried.append((found, tuple(weights)))
  return Weights(*min(tried)[1])


def _line_search(
  offsets: Sequence[Values],
  slopes: Sequence[Values],
  errors: Sequence[Int[np.ndarray, " hypotheses"]],
  lowest: float,
) -> tuple[float, int]:
  """The weight from `lowest` on with the fewest errors, and their number.

  Of a hypothesis, `offset + weight * slope` is the total. The middle of the
  widest interval with the fewest errors is taken.
  """
  count, changes = 0, []
  for offset, slope, wrong in zip(offsets, slopes, errors):
    hull = _upper_hull(offset, slope)
    first = [i for start, i in hull if start <= lowest][-1]
    count += int(wrong[first])
    current = first
    for start, i in hull:
      if start > lowest:
        changes.append((start, int(wrong[i] - wrong[current])))
        current = i
  changes.sort()
  edges = [lowest, *(start for start, _ in changes), math.inf]
  counts = np.cumsum([count, *(change for _, change in changes)])
  fewest = int(counts.min())
  widths = [
    (right - left, -abs(left), left, right)
    for left, right, errors in zip(edges, edges[1:], counts)
    if errors == fewest and right > left
  ]
  # Finite ones first, since weights far from the others are no evidence.
  finite = [x for x in widths if math.isfinite(x[0])]
  _, _, left, right = max(finite or widths)
  return _middle(left, right), fewest


def _middle(left: float, right: float) -> float:
  if math.isinf(left) and math.isinf(right):
    return 0.0
  if math.isinf(right):
    return left + max(1.0, abs(left)) if left else 0.0
  if math.isinf(left):
    return right - max(1.0, abs(right))
  return (left + right) / 2


def _upper_hull(offsets: Values, slopes: Values) -> list[tuple[float, int]]:
  """From which weight on which line is the highest, ascending.

  Of equal lines the first is taken.
  """
  order = sorted(range(len(slopes)), key=lambda i: (slopes[i], -offsets[i], i))
  hull: list[tuple[float, int]] = []
  for i in order:
    start = -math.inf
    while hull:
      _, last = hull[-1]
      if slopes[i] == slopes[last]:
        break
      start = (offsets[last] - offsets[i]) / (slopes[i] - slopes[last])
      if start > hull[-1][0]:
        break
      hull.pop()
      start = -math.inf
    if not hull or slopes[i] != slopes[hull[-1][1]]:
      hull.append((float(start), i))
  return hull


def to_line(
  nbest: NBest, model_scores: Values, weights: Weights
) -> Mapping[str, Any]:
  """The record of a list with the model's scores, totals and the best text."""
  found = totals(nbest, model_scores, weights)
  return {
    **nbest.record,
    "hypotheses": [
      {**item, "model_score": float(score), "total": float(total)}
      for item, score, total in zip(
        nbest.record["hypotheses"], model_scores, found
      )
    ],
    "best": nbest.texts[int(found.argmax())],
  }
