"""The part of a text that answers a question, as in SQuAD.

The targets of a batch:

  start_positions: int32 [batch], the answer's first token in the row; where
    there is no answer, 0. One outside the row counts nothing.
  end_positions: int32 [batch], the answer's last token.
  position_weights: float32 [batch], 0 where a row counts nothing.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import fields, losses, rows, spans
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean, Record


@dataclasses.dataclass(frozen=True)
class Head:
  """How a long context is cut; the head itself has nothing to set.

  Attributes:
    max_length: the longest window, question and special tokens included, if
      the encoder takes it.
    stride: tokens that a window shares with the one before, as Transformers
      has it; at most half of what a window sees of the context.
  """

  max_length: int = 384
  stride: int = 128

  def __post_init__(self):
    if self.max_length < 1:
      raise ValueError(
        f"max_length: expected at least 1, got {self.max_length}"
      )
    if self.stride < 0:
      raise ValueError(f"stride: expected at least 0, got {self.stride}")


@dataclasses.dataclass(frozen=True)
class Answer:
  """A part of the context.

  Attributes:
    text: the answer, empty where the context has none.
    start: its first character in the context.
    end: one past its last.
    score: the probability that the model gives it in its window, from 0 to 1.
  """

  text: str
  start: int
  end: int
  score: float


def make(
  config: EncoderConfig,
  tokenizer: Tokenizer | None,
  head: Head = Head(),
  data: None = None,
  seed: int = 0,
) -> Task:
  """Makes the task.

  Args:
    config: the encoder's.
    tokenizer: None where only ids go in.
    head: how a long context is cut.
    data: there is no way to train it yet.
    seed: not used.
  """
  del data, seed
  return Task(
    name="question_answering",
    config=config,
    tokenizer=tokenizer,
    model=heads.TokenClassifier(config, 2),
    blank=rows.blank(
      {
        "start_positions": np.zeros((), np.int32),
        "end_positions": np.zeros((), np.int32),
        "position_weights": np.zeros((), np.float32),
      }
    ),
    loss=loss,
    metrics=metrics,
    prepare=functools.partial(
      prepare,
      tokenizer,
      rows.max_length(config, head.max_length),
      head.stride,
    ),
    answer=functools.partial(answer, tokenizer),
    join=join,
    head=head,
  )


def prepare(
  tokenizer: Tokenizer | None, max_length: int, stride: int, record: Record
) -> list[Batch]:
  """A question and its context, in windows where that is long.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    stride: see `Head`.
    record: `question` and `context`.

  Returns:
    Unbatched examples with the targets `starts` and `ends`, int32 [length],
    the characters of each token, and `in_context`, bool [length].

  Raises:
    UserError: a field is missing, no text or blank, or the question takes
      more than half of a row, or there is no vocabulary.
  """
  tokenizer = fields.need_tokenizer(tokenizer)
  question = fields.content(record, "question")
  context = fields.content(record, "context")
  encoding = tokenizer.encode(question, context)
  places = rows.pieces(encoding, tokenizer.special)
  if 2 * places.start > max_length:
    raise UserError(
      f"the question {fields.shorten(question)!r} has, with special tokens,"
      f" {places.start} tokens; expected at most {max_length // 2}, half of"
      " the longest row"
    )
  examples = []
  for cut in rows.windowed(encoding, tokenizer.special, max_length, stride):
    offsets = np.array(cut.encoding.offsets, np.int32)
    in_context = np.zeros(len(offsets), bool)
    in_context[places.start : -1] = True
    targets = {
      "starts": offsets[:, 0],
      "ends": offsets[:, 1],
      "in_context": in_context,
    }
    examples.append(rows.example(cut.encoding, targets))
  return examples


class _Window(NamedTuple):
  """What a window answers, yet to be joined."""

  answers: list[Answer]
  null_score: float | None
  top_k: int


def answer(
  tokenizer: Tokenizer,
  outputs: Float[Array, "batch length 2"],
  batch: Batch,
  records: Sequence[Record],
  top_k: int = 1,
  max_answer_length: int = 30,
  no_answer: bool = False,
  align_to_words: bool = True,
) -> Sequence[_Window]:
  """For each row the best parts of its context, which `join` chooses from.

  As in Transformers' pipeline `question-answering`, a score is the product of
  the probabilities of start and end among the tokens of the context and
  `[CLS]`, and those of answers with the same words add up.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    outputs: the model's.
    batch: what they are for.
    records: of its rows.
    top_k: how many answers, at most.
    max_answer_length: tokens of an answer, at most.
    no_answer: whether that there is none (SQuAD 2.0) is one of the answers.
    align_to_words: whether answers are widened to whole words; better off
      for languages without spaces.

  Raises:
    UserError: an option is no whole number above 0.
  """
  fields.at_least_one("top_k", top_k)
  fields.at_least_one("max_answer_length", max_answer_length)
  targets = {name: np.asarray(x) for name, x in batch.targets.items()}
  found = spans.best(
    outputs,
    targets["in_context"],
    max_answer_length,
    # Several may turn out to be the same words.
    2 * top_k + 10 if align_to_words else top_k,
  )
  scores, firsts, lasts, null_scores = (np.asarray(x).tolist() for x in found)
  continuations = tokenizer.continuations[np.asarray(batch.token_ids)]
  windows = []
  for row, record in enumerate(records):
    context, answers = record["context"], []
    tokens = spans.Tokens(
      targets["starts"][row],
      targets["ends"][row],
      targets["in_context"][row],
      continuations[row],
    )
    for score, first, last in zip(scores[row], firsts[row], lasts[row]):
      if score == 0:
        break
      if align_to_words:
        first, last = spans.widen(tokens, context, first, last)
      end = int(tokens.ends[last])
      # The first piece may stand for the space before it too.
      text = context[tokens.starts[first] : end].lstrip()
      answers.append(Answer(text, end - len(text), end, score))
    null = null_scores[row] if no_answer else None
    windows.append(_Window(_same_added(answers), null, top_k))
  return windows


def _same_added(answers: Sequence[Answer]) -> list[Answer]:
  """Of answers with the same words the first, with the sum of their scores."""
  merged: dict[str, Answer] = {}
  for answer in answers:
    key = answer.text.lower()
    first = merged.get(key, answer)
    more = answer.score if key in merged else 0.0
    merged[key] = dataclasses.replace(first, score=first.score + more)
  return [answer for answer in merged.values() if answer.text]


def join(windows: Sequence[_Window]) -> list[Answer]:
  """The best answers of all windows, best first.

  The same words have the best of their windows' scores: where windows
  overlap they are found twice. (Transformers adds these up, beyond 1.) That
  there is no answer has the least.
  """
  best: dict[str, Answer] = {}
  for answer in itertools.chain.from_iterable(w.answers for w in windows):
    key = answer.text.lower()
    if key not in best or answer.score > best[key].score:
      best[key] = answer
  answers = list(best.values())
  nulls = [w.null_score for w in windows if w.null_score is not None]
  if nulls:
    answers.append(Answer("", 0, 0, min(nulls)))
  answers.sort(key=lambda answer: -answer.score)
  return answers[: windows[0].top_k]


def loss(
  outputs: Float[Array, "batch length 2"], batch: Batch
) -> dict[str, Mean]:
  """Half the cross-entropy of the start, and of the end, in nats.

  As `BertForQuestionAnswering` of Transformers, but padding takes no
  probability, so that it does not matter how much there is.
  """
  means = {}
  for name, logits, labels, weights in _both(outputs, batch):
    values = 0.5 * losses.cross_entropy(logits, labels)
    means[f"{name}_loss"] = losses.mean(values, weights)
  return means


def metrics(
  outputs: Float[Array, "batch length 2"], batch: Batch
) -> dict[str, Mean]:
  """The share of starts, and of ends, that the model gets right."""
  return {
    f"{name}_accuracy": losses.mean(logits.argmax(-1) == labels, weights)
    for name, logits, labels, weights in _both(outputs, batch)
  }


def _both(
  outputs: Float[Array, "batch length 2"], batch: Batch
) -> Iterator[tuple[str, Array, Array, Array]]:
  """Name, logits, labels and weights of starts and of ends."""
  used = batch.sequence_ids > 0
  last = outputs.shape[1] - 1
  for i, name in enumerate(("start", "end")):
    positions = batch.targets[f"{name}_positions"]
    labels = jnp.clip(positions, 0, last)
    inside = jnp.take_along_axis(used, labels[:, None], axis=1)[:, 0]
    inside &= labels == positions
    weights = batch.targets["position_weights"] * inside
    yield name, losses.only(used, outputs[..., i]), labels, weights
