"""Which of several texts goes with a text, as in SWAG and RACE.

The four id arrays of a batch are [batch, choices, length]. Its targets:

  labels: int32 [batch], the choice that is right.
  label_weights: float32 [batch], 0 where a row counts nothing.
  choice_weights: float32 [batch, choices], 0 where a choice only pads.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from bert_jax.data.sources.labelled import Record
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import supervised
from bert_jax.tasks.common import fields, losses, rows, stacks
from bert_jax.tasks.supervised import load_tokenizer
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean

__all__ = ["Data", "Head", "load_tokenizer", "make"]

FIELDS = supervised.Fields(
  ("text", "question", "choices", "label"),
  optional=("question",),
  lists=("choices",),
)


@dataclasses.dataclass(frozen=True)
class Head:
  """What is kept of how rows were made.

  Attributes:
    max_length: longer rows are cut to so many tokens, special tokens
      included; 0 is the longest that the encoder takes.
  """

  max_length: int = 0

  def __post_init__(self):
    supervised.check_max_length(self.max_length)


@dataclasses.dataclass(frozen=True)
class Data(supervised.Data):
  """The section `config.data`: `text`, `choices`, `label`, maybe `question`.

  The label is the place of the right choice, from 0, or its letter, from A.
  A question comes after the text and before each choice (SWAG's `sent2`), or
  around it where it has a gap `_` (RACE).
  """


@dataclasses.dataclass(frozen=True)
class Choice:
  """One of the choices.

  Attributes:
    index: its place among them, from 0.
    choice: its text.
    probability: that it is the right one, from 0 to 1.
  """

  index: int
  choice: str
  probability: float


def make(
  config: EncoderConfig,
  tokenizer: Tokenizer | None,
  head: Head | None = None,
  data: Data | None = None,
  seed: int = 0,
) -> Task:
  """Makes the task.

  Args:
    config: the encoder's.
    tokenizer: None where only ids go in.
    head: the longest row; with data, theirs is taken.
    data: what to learn from; None to predict only.
    seed: not used.

  Raises:
    UserError: the data cannot be read, or are not for this task.
  """
  del seed
  head, count = head or Head(), 0
  labelled = data and supervised.read(data, FIELDS)
  if labelled:
    head = Head(rows.max_length(config, data.max_length))
    # So that all training rows are of one shape but for their length.
    given = labelled.values("choices")
    count = max(len(choices) for choices in given)
  longest = rows.max_length(config, head.max_length)
  task = Task(
    name="multiple_choice",
    config=config,
    tokenizer=tokenizer,
    model=heads.MultipleChoiceModel(config),
    blank=rows.blank(
      {
        "labels": np.zeros((), np.int32),
        "label_weights": np.zeros((), np.float32),
        "choice_weights": np.zeros(count or 2, np.float32),
      },
      shape=(count or 2, 4),
    ),
    loss=loss,
    metrics=metrics,
    prepare=functools.partial(prepare, tokenizer, longest, count),
    answer=answer,
    score=score,
    baselines=baselines,
    head=head,
  )
  return supervised.with_data(task, data, labelled, longest)


def prepare(
  tokenizer: Tokenizer | None, max_length: int, count: int, record: Record
) -> list[Batch]:
  """A text, paired with each of the choices and cut to the longest row.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    count: blank choices are added up to so many.
    record: `text`; `choices`, a list of texts; `question` if there is one, and
      the gold `label` if any: see `Data`.

  Returns:
    One unbatched example, its id arrays [choices, length].

  Raises:
    UserError: a field is missing, no text or empty, the label is none of the
      choices, or there is no vocabulary.
  """
  tokenizer = fields.need_tokenizer(tokenizer)
  is_gold = record.get("label") is not None
  text = (fields.content if is_gold else fields.text)(record, "text")
  choices = fields.texts(record, "choices")
  targets = {"choice_weights": np.zeros(max(count, len(choices)), np.float32)}
  targets["choice_weights"][: len(choices)] = 1
  if is_gold:
    targets["labels"] = np.array(_place(record), np.int32)
    targets["label_weights"] = np.ones((), np.float32)
  if record.get("question") is not None:
    question = fields.text(record, "question")
    choices = [_filled(question, choice) for choice in choices]
  encodings = [
    rows.encode(tokenizer, max_length, text, choice) for choice in choices
  ]
  return [stacks.example(encodings, targets, count)]


def _place(record: Record) -> int:
  """The place of the right choice, which may be given as a letter."""
  given, count = fields.label(record["label"]), len(record["choices"])
  letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
  if given.isascii() and given.isdecimal():
    place = int(given)
  else:
    place = letters.find(given.upper()) if len(given) == 1 else -1
  if not 0 <= place < count:
    raise UserError(
      f"the label {given!r:.60}: expected the place of one of {count} choices,"
      f" from 0 to {count - 1}, or its letter, from A"
    )
  return place


def _filled(question: str, choice: str) -> str:
  """The question with the choice in its gap, or else after it."""
  filled, gaps = re.subn("_+", lambda _: choice, question)
  return filled if gaps else f"{question} {choice}"


def answer(
  outputs: Float[Array, "batch choices"],
  batch: Batch,
  records: Sequence[Record],
) -> Sequence[list[Choice]]:
  """For each row its choices, the likeliest first."""
  probabilities = np.asarray(jax.nn.softmax(_logits(outputs, batch), axis=-1))
  order = np.argsort(-probabilities, axis=-1, kind="stable")
  return [
    [
      Choice(int(i), record["choices"][i], float(probabilities[row, i]))
      for i in order[row]
      if i < len(record["choices"])
    ]
    for row, record in enumerate(records)
  ]


def _logits(
  outputs: Float[Array, "batch choices"], batch: Batch
) -> Float[Array, "batch choices"]:
  return losses.only(batch.targets["choice_weights"] > 0, outputs)


def loss(
  outputs: Float[Array, "batch choices"], batch: Batch
) -> dict[str, Mean]:
  """Cross-entropy over a row's choices, in nats."""
  targets = batch.targets
  values = losses.cross_entropy(_logits(outputs, batch), targets["labels"])
  return {"choice_loss": losses.mean(values, targets["label_weights"])}


def metrics(
  outputs: Float[Array, "batch choices"], batch: Batch
) -> dict[str, Mean]:
  """The share of rows whose right choice is the likeliest."""
  targets = batch.targets
  right = _logits(outputs, batch).argmax(-1) == targets["labels"]
  return {"accuracy": losses.mean(right, targets["label_weights"])}


def score(
  head: Head, answers: Sequence[Sequence[Choice]], records: Sequence[Record]
) -> dict[str, float]:
  """The share of records whose right choice is the likeliest."""
  del head
  right = [
    found[0].index == _place(record) for found, record in zip(answers, records)
  ]
  return {"accuracy": float(np.mean(right))}


def baselines(records: Sequence[Record]) -> dict[str, float]:
  """What always taking the choice at the commonest place would score."""
  counts = collections.Counter(map(_place, records))
  return {
    "accuracy_majority_baseline": max(counts.values()) / max(len(records), 1)
  }
