"""The part of a context that answers a question, as in SQuAD.

A chunk learns what google-research/bert's run_squad.py and Transformers'
run_qa.py have it learn: the first of the gold answers, widened to whole
tokens, if the chunk has all of it, and else `[CLS]`. Each chunk counts the
same.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from jaxtyping import Float, Int

from bert_jax.batch import Array, Batch, Mean
from bert_jax.data.records import Splits
from bert_jax.data.sources import squad
from bert_jax.data.sources.labelled import Record, RefusedError
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks.inputs import fields
from bert_jax.tasks.inputs.rows import PREFIX, Row
from bert_jax.tasks.metrics import answers as metrics
from bert_jax.tasks.targets import losses, spans, view
from bert_jax.tasks.targets.target import (
  Arrays,
  Means,
  Metrics,
  Records,
  Target,
  Vocabulary,
)
from bert_jax.tasks.targets.view import View

Logits = Float[Array, "batch length 2"]
# Characters of a context that the page shows before an answer.
_BEFORE = 100
# The null score of a question without any candidate; finite, as scorers want.
_NO_CANDIDATE = 690.0


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


class Candidate(NamedTuple):
  """A possible answer, with the sum of the logits of its start and end."""

  logit: float
  text: str
  start: int
  end: int


class Candidates(NamedTuple):
  """The possible answers in a chunk, or in a whole context.

  Attributes:
    best: those with the greatest logits, the best first.
    normalizer: the log of the sum of all answers' exponentials.
    null_logit: the logit of there being no answer.
  """

  best: list[Candidate]
  normalizer: float
  null_logit: float


@dataclasses.dataclass(frozen=True)
class Span(Target):
  """A part of the context; the gold field is `answers`.

  That is a list of `text` and `start` (a character), empty where there is no
  answer. Needs `QuestionContext` as inputs. The arrays of a batch:

    start_positions: int32 [batch], the answer's first token in the row; 0
      where there is no answer. One outside the row counts nothing.
    end_positions: int32 [batch], the answer's last token.
    weights: float32 [batch], 0 for padding rows.

  Predictions are `Candidates`.

  Attributes:
    null_answers: whether it was trained with questions without answers, as in
      SQuAD 2.0; `fit` finds out.
    null_threshold: by how much the logit of no answer must exceed that of the
      best answer to be given; `tune` fits it to held-out questions.
  """

  null_answers: bool = False
  null_threshold: float = 0.0

  FIELDS: ClassVar = ("answers",)
  ARRAYS: ClassVar = {
    "start_positions": (np.int32, ""),
    "end_positions": (np.int32, ""),
  }
  TUNED: ClassVar = ("null_threshold",)
  # As run_squad.py and run_qa.py choose the answers to be scored.
  EVALUATION_OPTIONS: ClassVar = {
    "top_k": 20,
    "max_answer_length": 30,
    "align_to_words": False,
  }
  ARCHITECTURE: ClassVar = "ForQuestionAnswering"

  def __post_init__(self):
    if not math.isfinite(self.null_threshold):
      raise ValueError(
        f"null_threshold: expected a finite number, got {self.null_threshold}"
      )

  def head(self, config: EncoderConfig) -> Any:
    from bert_jax.models import heads  # Needs JAX.

    return heads.TokenHead(config, 2, bias=True)

  def has_gold(self, record: Record) -> bool:
    """An empty list of answers says that there is none."""
    return record.get("answers") is not None

  def gold(self, record: Record) -> list[Mapping[str, Any]]:
    """The checked answers.

    Raises:
      UserError: an answer is not where it is said to be.
    """
    try:
      return squad.answers(record["answers"], record["context"])
    except RefusedError as error:
      raise UserError(str(error)) from None

  def encode(
    self, record: Record, rows: Sequence[Row], training: bool = False
  ) -> list[Arrays]:
    gold, made = self._tokens(record, rows[0]), []
    for row in rows:
      in_context = row.example.targets[f"{PREFIX}in_context"]
      first, last = gold[0] - row.shift, gold[-1] - row.shift
      seen = first > 0 and last < len(in_context)
      if not (seen and in_context[first] and in_context[last]):
        first = last = 0
      made.append(
        {
          "start_positions": np.array(first, np.int32),
          "end_positions": np.array(last, np.int32),
          "weights": np.ones((), np.float32),
        }
      )
    return made

  def _tokens(self, record: Record, row: Row) -> Int[np.ndarray, " tokens"]:
    """The positions of the first answer's tokens; of `[CLS]` without any."""
    answers = self.gold(record)
    if not answers:
      return np.zeros(1, np.int64)
    # A token may stand for the space before it, which does not make it part
    # of an answer that ends with one.
    text = answers[0]["text"]
    start = answers[0]["start"] + len(text) - len(text.lstrip())
    end = start + len(text.strip())
    offsets = np.array(row.whole.offsets).reshape(-1, 2)[row.pieces]
    hit = (offsets[:, 1] > start) & (offsets[:, 0] < end)
    if not hit.any():
      raise UserError(
        f"the answer {fields.shorten(text)!r} at character {start} of the"
        " context has no tokens"
      )
    return np.flatnonzero(hit) + row.pieces.start

  def fit(self, records: Splits, pretrained: Self | None) -> Self:
    """Finds out whether there are questions without answers."""
    start = pretrained or self
    has_answer = records.each(lambda record: bool(record["answers"]))
    null_answers = start.null_answers or not all(has_answer)
    return dataclasses.replace(start, null_answers=null_answers)

  def loss(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    """Half the cross-entropy of the start, and of the end, in nats.

    As in `BertForQuestionAnswering` of Transformers, but padding gets no
    probability, so that its amount does not matter.
    """
    means = {}
    for name, logits, labels, weights in _both(outputs, arrays, batch):
      values = 0.5 * losses.cross_entropy(logits, labels)
      means[f"{name}_loss"] = losses.mean(values, weights)
    return means

  @property
  def taught_axis(self) -> str:
    return "token"

  def soft_loss(
    self,
    outputs: Logits,
    taught: Float[Array, "batch 2 length"],
    arrays: Arrays,
    batch: Batch,
    temperature: float,
  ) -> Mean:
    """The mean divergence of the probabilities of starts and of ends."""
    used = (batch.sequence_ids > 0)[:, None]
    logits, own = (
      losses.only(used, x) for x in (outputs.swapaxes(-1, -2), taught)
    )
    values = losses.divergence(logits, own, temperature).mean(-1)
    return losses.mean(values, arrays["weights"])

  def metrics(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    return {
      f"{name}_accuracy": losses.accuracy(logits, labels, weights)["accuracy"]
      for name, logits, labels, weights in _both(outputs, arrays, batch)
    }

  def predict(
    self,
    outputs: Logits,
    batch: Batch,
    records: Records,
    tokenizer: Vocabulary,
    top_k: int = 1,
    max_answer_length: int = 30,
    align_to_words: bool = True,
  ) -> list[Candidates]:
    """The candidates of each row.

    A logit is the sum of those of start and end, and the normalizer is over
    the tokens of the context and `[CLS]`, as in Transformers' pipeline
    `question-answering`.

    Args:
      outputs: the head's.
      batch: the input.
      records: of its rows.
      tokenizer: the tokenizer that the model was trained with.
      top_k: the number of answers that are asked for.
      max_answer_length: the longest answer, in tokens.
      align_to_words: whether answers are widened to whole words, and the
        probabilities of those with the same words added up, as in the
        pipeline. Without, answers are the characters of their tokens, as the
        scorers of SQuAD want; better too for languages without spaces.

    Raises:
      UserError: an option is no whole number above 0.
    """
    fields.at_least_one("top_k", top_k)
    fields.at_least_one("max_answer_length", max_answer_length)
    arrays = {
      name: np.asarray(batch.targets[PREFIX + name])
      for name in ("starts", "ends", "in_context")
    }
    found = spans.best(
      np.asarray(outputs),
      arrays["in_context"],
      max_answer_length,
      # Several may turn out to be the same words.
      2 * top_k + 10 if align_to_words else top_k,
    )
    continuations = tokenizer.continuations[np.asarray(batch.token_ids)]
    made = []
    for row, (record, own) in enumerate(zip(records, found)):
      tokens = spans.Tokens(
        *(column[row] for column in arrays.values()), continuations[row]
      )
      best = [
        _candidate(tokens, record["context"], *span, align_to_words)
        for span in zip(*(column.tolist() for column in own[:3]))
      ]
      distinct = _distinct(best, add=align_to_words)
      made.append(Candidates(distinct, own.normalizer, own.null_logit))
    return made

  def merge(
    self, record: Record, predictions: Sequence[Candidates]
  ) -> Candidates:
    """The candidates of all chunks.

    Chunks compare by logits, as in google-research/bert's run_squad.py and
    Transformers' run_qa.py, and a probability is among the answers of all
    chunks (the shared normalization of Clark and Gardner 2018,
    arXiv:1710.10723). That there is no answer has the least logit of all
    chunks, as in these programs.
    """
    best = itertools.chain.from_iterable(p.best for p in predictions)
    return Candidates(
      _distinct(best, add=False),
      float(np.logaddexp.reduce([p.normalizer for p in predictions])),
      min(p.null_logit for p in predictions),
    )

  def decode(
    self,
    record: Record,
    prediction: Candidates,
    tokenizer: Vocabulary,
    top_k: int = 1,
    no_answer: bool | None = None,
  ) -> list[Answer]:
    """The best answers, the best first.

    Args:
      record: the question.
      prediction: its candidates.
      tokenizer: not used.
      top_k: the number of answers, at most.
      no_answer: whether that there is none (SQuAD 2.0) is one of the answers;
        None where the model was trained for it. It comes before an answer if
        its logit is greater by more than the threshold, and is always there
        if more than one answer is asked for.
    """
    del record, tokenizer
    best = list(prediction.best)
    with_null = self.null_answers if no_answer is None else no_answer
    best += [Candidate(prediction.null_logit, "", 0, 0)] * with_null
    best.sort(key=lambda c: (0 if c.text else self.null_threshold) - c.logit)
    kept = best[:top_k]
    if with_null and top_k > 1 and all(c.text for c in kept):
      kept[-1] = next(c for c in best if not c.text)
    total = prediction.normalizer
    return [
      Answer(c.text, c.start, c.end, float(np.exp(c.logit - total)))
      for c in kept
    ]

  def _texts(self, predictions: Sequence[Candidates]) -> list[str]:
    """The best answer with words to each question; empty if there is none."""
    return [p.best[0].text if p.best else "" for p in predictions]

  def _null_scores(self, predictions: Sequence[Candidates]) -> list[float]:
    """By how much the logit of no answer exceeds that of the best answer.

    This is what run_squad.py writes to `null_odds.json`.
    """
    return [
      p.null_logit - p.best[0].logit if p.best else _NO_CANDIDATE
      for p in predictions
    ]

  def texts(self, predictions: Sequence[Candidates]) -> list[str]:
    """The text that each question gets, empty where it has no answer."""
    found = self._texts(predictions)
    if not self.null_answers:
      return found
    nulls = self._null_scores(predictions)
    return [
      "" if null > self.null_threshold else text
      for text, null in zip(found, nulls)
    ]

  def evaluate(
    self, records: Records, predictions: Sequence[Candidates]
  ) -> Metrics:
    """Exact matches and F1, from 0 to 1; see `metrics.answers.evaluate`."""
    given: list[Any] = [_gold_texts(records), self._texts(predictions)]
    if self.null_answers:
      given += [self._null_scores(predictions), self.null_threshold]
    found = metrics.evaluate(*given)
    return {"f1": found["f1"], **found}

  def tune(self, records: Records, predictions: Sequence[Candidates]) -> Self:
    """With the null threshold of the best F1.

    Unchanged where all questions have an answer, or none has one: such records
    say nothing about a threshold.
    """
    gold = _gold_texts(records)
    if not self.null_answers or all(gold) or not any(gold):
      return self
    threshold = metrics.tune_null_threshold(
      gold, self._texts(predictions), self._null_scores(predictions)
    )
    return dataclasses.replace(self, null_threshold=threshold)

  def baselines(self, records: Records) -> Metrics:
    """Of always saying that there is no answer."""
    share = sum(not gold for gold in _gold_texts(records)) / len(records)
    return {"exact_majority_baseline": share, "f1_majority_baseline": share}

  def view(self, records: Records, predictions: Sequence[Candidates]) -> View:
    """The most confident mistakes, with their contexts."""
    mistakes = []
    for record, found, text in zip(
      records, predictions, self.texts(predictions)
    ):
      gold = [answer["text"] for answer in record["answers"]]
      f1 = metrics.f1(gold, text)
      if f1 < 1:
        logits = {c.text: c.logit for c in found.best}
        logit = logits[text] if text else found.null_logit
        score = float(np.exp(logit - found.normalizer))
        row = {
          **view.texts(record, "question"),
          "gold": " | ".join(dict.fromkeys(gold)) or "(no answer)",
          "predicted": text or "(no answer)",
          "probability": score,
          "F1": f1,
          "context": _around(record, found),
        }
        mistakes.append((score * (1 - f1), row))
    return View(mistakes=view.worst(mistakes))

  def files(
    self, records: Records, predictions: Sequence[Candidates]
  ) -> dict[str, str]:
    """`predictions.json`, as SQuAD's official scorers take it.

    A question without an `id` has its number, from 1.
    """
    ids = (str(r.get("id", n)) for n, r in enumerate(records, 1))
    texts = dict(zip(ids, self.texts(predictions)))
    return {"predictions.json": json.dumps(texts, ensure_ascii=False) + "\n"}

  def average(
    self, batch: Batch, members: Float[Array, "members batch length 2"]
  ) -> Logits:
    """Log of the mean probabilities among a row's tokens."""
    used = (batch.sequence_ids > 0)[..., None]
    logits = losses.only(used, members)
    return losses.log_mean(losses.log_softmax(logits, axis=-2))


def _both(
  outputs: Logits, arrays: Arrays, batch: Batch
) -> Iterator[tuple[str, Array, Array, Array]]:
  """Name, logits, labels and weights of starts and of ends."""
  used = batch.sequence_ids > 0
  last, xp = outputs.shape[1] - 1, outputs.__array_namespace__()
  for i, name in enumerate(("start", "end")):
    positions = arrays[f"{name}_positions"]
    labels = xp.clip(positions, 0, last)
    inside = xp.take_along_axis(used, labels[:, None], axis=1)[:, 0]
    inside &= labels == positions
    weights = arrays["weights"] * inside
    yield name, losses.only(used, outputs[..., i]), labels, weights


def _candidate(
  tokens: spans.Tokens,
  context: str,
  logit: float,
  first: int,
  last: int,
  align_to_words: bool,
) -> Candidate:
  if align_to_words:
    first, last = spans.widen(tokens, context, first, last)
  end = int(tokens.ends[last])
  # The first token may stand for the space before it too.
  text = context[tokens.starts[first] : end].lstrip()
  return Candidate(logit, text, end - len(text), end)


def _distinct(candidates: Iterable[Candidate], add: bool) -> list[Candidate]:
  """The best of the candidates with the same words, the best first.

  Args:
    candidates: those without text are left out.
    add: whether the exponentials of the others are added to its own.
  """
  found: dict[str, Candidate] = {}
  for new in filter(lambda candidate: candidate.text, candidates):
    key = new.text.lower()
    old = found.setdefault(key, new)
    if old is new:
      continue
    best = max(old, new, key=_by_logit)
    if add:
      best = best._replace(logit=float(np.logaddexp(old.logit, new.logit)))
    found[key] = best
  return sorted(found.values(), key=_by_logit, reverse=True)


def _by_logit(candidate: Candidate) -> float:
  return candidate.logit


def _around(record: Record, found: Candidates) -> str:
  """The part of a context with the gold or the predicted answer."""
  gold = [answer["start"] for answer in record["answers"]]
  seen = [candidate.start for candidate in found.best]
  place = next(iter(gold + seen), 0)
  begin, end = max(place - _BEFORE, 0), place + 2 * _BEFORE
  part = record["context"][begin:end]
  more = "…" if end < len(record["context"]) else ""
  return f"{'…' if begin else ''}{part}{more}"


def _gold_texts(records: Records) -> list[list[str]]:
  return [[gold["text"] for gold in r["answers"]] for r in records]
