"""From the logits of starts and ends to answers: parts of contexts."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float

from bert_jax.data.sources.labelled import Record
from bert_jax.tasks.common import fields, spans
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch

# The least probability that makes a null score, so that all are finite.
_TINY = 1e-300


@dataclasses.dataclass(frozen=True)
class Answer:
  """A part of the context.

  Attributes:
    text: the answer, empty where the context has none.
    start: its first character in the context.
    end: one past its last.
    score: the probability that the model gives it, from 0 to 1.
  """

  text: str
  start: int
  end: int
  score: float


class _Candidate(NamedTuple):
  """A possible answer, with the sum of the logits of its start and end."""

  logit: float
  text: str
  start: int
  end: int


class Window(NamedTuple):
  """What a window answers, yet to be joined.

  Attributes:
    candidates: its best answers.
    normaliser: the log of the sum of all answers' exponentials.
    null_logit: that of there being no answer, None if that is not asked for.
    null_threshold: by how much it must be greater than that of an answer.
    top_k: how many answers, at most.
  """

  candidates: list[_Candidate]
  normaliser: float
  null_logit: float | None
  null_threshold: float
  top_k: int


def answer(
  tokenizer: Tokenizer,
  null_answers: bool,
  null_threshold: float,
  outputs: Float[Array, "batch length 2"],
  batch: Batch,
  records: Sequence[Record],
  top_k: int = 1,
  max_answer_length: int = 30,
  no_answer: bool | None = None,
  align_to_words: bool = True,
) -> Sequence[Window]:
  """For each row the best parts of its context, which `join` chooses from.

  A score is the product of the probabilities of start and end among the
  tokens of the context and `[CLS]`, as in Transformers' pipeline
  `question-answering`.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    null_answers: whether it was trained with questions without answers.
    null_threshold: see `join`.
    outputs: the model's.
    batch: what they are for.
    records: of its rows.
    top_k: how many answers, at most.
    max_answer_length: tokens of an answer, at most.
    no_answer: whether that there is none (SQuAD 2.0) is one of the answers;
      None where the model was trained for it.
    align_to_words: whether answers are widened to whole words, and the scores
      of those with the same words add up, as in the pipeline. Without, they
      are the characters of their tokens, as the scorers of SQuAD ask for;
      better too for languages without spaces.

  Raises:
    UserError: an option is no whole number above 0.
  """
  fields.at_least_one("top_k", top_k)
  fields.at_least_one("max_answer_length", max_answer_length)
  no_answer = null_answers if no_answer is None else no_answer
  targets = {name: np.asarray(x) for name, x in batch.targets.items()}
  found = spans.best(
    outputs,
    targets["in_context"],
    max_answer_length,
    # Several may turn out to be the same words.
    2 * top_k + 10 if align_to_words else top_k,
  )
  logits, firsts, lasts, nulls, normalisers = (
    np.asarray(x).tolist() for x in found
  )
  continuations = tokenizer.continuations[np.asarray(batch.token_ids)]
  windows = []
  for row, record in enumerate(records):
    tokens = spans.Tokens(
      targets["starts"][row],
      targets["ends"][row],
      targets["in_context"][row],
      continuations[row],
    )
    best = [
      _candidate(tokens, record["context"], *span, align_to_words)
      for span in zip(logits[row], firsts[row], lasts[row])
      if span[0] > -np.inf
    ]
    windows.append(
      Window(
        _distinct(best, add=align_to_words),
        normalisers[row],
        nulls[row] if no_answer else None,
        null_threshold,
        top_k,
      )
    )
  return windows


def _candidate(
  tokens: spans.Tokens,
  context: str,
  logit: float,
  first: int,
  last: int,
  align_to_words: bool,
) -> _Candidate:
  if align_to_words:
    first, last = spans.widen(tokens, context, first, last)
  end = int(tokens.ends[last])
  # The first piece may stand for the space before it too.
  text = context[tokens.starts[first] : end].lstrip()
  return _Candidate(logit, text, end - len(text), end)


def _distinct(candidates: Iterable[_Candidate], add: bool) -> list[_Candidate]:
  """Of candidates with the same words the best.

  Args:
    candidates: some may be empty, and are left out.
    add: whether the exponentials of the others are added to its own.
  """
  found: dict[str, _Candidate] = {}
  for new in filter(lambda candidate: candidate.text, candidates):
    key = new.text.lower()
    old = found.setdefault(key, new)
    if old is new:
      continue
    best = max(old, new, key=lambda candidate: candidate.logit)
    if add:
      logit = float(np.logaddexp(old.logit, new.logit))
      best = best._replace(logit=logit)
    found[key] = best
  return list(found.values())


def join(windows: Sequence[Window]) -> list[Answer]:
  """The best answers of all windows, best first.

  Windows compare by logits, as in google-research/bert's run_squad.py and
  Transformers' run_qa.py, and a score is a probability among the answers of
  all windows (the shared normalisation of Clark and Gardner 2018,
  arXiv:1710.10723); Transformers' pipeline compares the probabilities that
  answers have in their windows. The same words have the best of their
  windows' scores: where windows overlap they are found twice.

  That there is no answer has the least score of all windows, as in these
  programs; it comes before an answer if its logit is greater by more than
  the threshold. It is always there if more than one answer is asked for.
  """
  null_threshold, top_k = windows[0].null_threshold, windows[0].top_k
  candidates = itertools.chain.from_iterable(w.candidates for w in windows)
  best = _distinct(candidates, add=False)
  nulls = [w.null_logit for w in windows if w.null_logit is not None]
  best += [_Candidate(min(nulls), "", 0, 0)] if nulls else []
  best.sort(key=lambda c: (0 if c.text else null_threshold) - c.logit)
  kept = best[:top_k]
  if nulls and top_k > 1 and all(c.text for c in kept):
    kept[-1] = next(c for c in best if not c.text)
  total = np.logaddexp.reduce([w.normaliser for w in windows])
  return [
    Answer(c.text, c.start, c.end, float(np.exp(c.logit - total))) for c in kept
  ]


def first_text(answers: Sequence[Answer]) -> str:
  """The best answer that has words; empty where none has."""
  return next((answer.text for answer in answers if answer.text), "")


def null_scores(answers: Sequence[Sequence[Answer]]) -> list[float]:
  """By how much the logits for no answer are greater than the best answer's.

  It is what run_squad.py writes to `null_odds.json`.

  Args:
    answers: for each question several, one of them that there is none.
  """
  found = []
  for given in answers:
    nulls = [answer.score for answer in given if not answer.text]
    assert nulls, "asked for with no_answer, and top_k above 1"
    best = max((answer.score for answer in given if answer.text), default=0)
    logs = (math.log(max(score, _TINY)) for score in (nulls[0], best))
    found.append(next(logs) - next(logs))
  return found
