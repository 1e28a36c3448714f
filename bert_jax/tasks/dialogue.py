"""What a sentence asks for, and the words that say the details.

Joint intent classification and slot filling (Chen et al. 2019,
arXiv:1902.10909). The targets of a batch are those of `word_labels`, the
slots being its labels, and

  intents: int32 [batch], each sentence's.
  intent_weights: float32 [batch], 0 where there is none, and in all rows of
    a sentence too long for one but the first.
"""

import collections
import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bert_jax.data.sources.labelled import Record
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.models.heads import JointOutputs
from bert_jax.tasks import supervised
from bert_jax.tasks.common import fields, losses, rows, word_labels
from bert_jax.tasks.common.word_labels import Entity, Word
from bert_jax.tasks.scores import entities as scores
from bert_jax.tasks.supervised import load_tokenizer
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean

__all__ = ["Data", "Frame", "Head", "load_tokenizer", "make"]

FIELDS = supervised.Fields(("words", "tags", "label"), lists=("words", "tags"))


@dataclasses.dataclass(frozen=True)
class Head:
  """What makes the head.

  Attributes:
    intents: the names of the intents.
    labels: the names of the slots' tags; `O` is for words outside all slots.
    max_length: longer texts are cut to windows of so many tokens, special
      tokens included; 0 is the longest that the encoder takes.
  """

  intents: tuple[str, ...] = ("INTENT_0", "INTENT_1")
  labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
  max_length: int = 0

  def __post_init__(self):
    supervised.check_labels("intents", self.intents)
    supervised.check_labels("labels", self.labels)
    supervised.check_max_length(self.max_length)


@dataclasses.dataclass(frozen=True)
class Data(supervised.Data):
  """The section `config.data`: records with `words`, `tags` and `label`.

  Besides these, the fields of `supervised.Data`.

  Attributes:
    intents: the names of intents in the order of the head; by default those
      in the training records, sorted.
    labels: the names of tags in the order of the head; by default those in
      the training records, `O` first and the rest sorted.
  """

  intents: tuple[str, ...] = ()
  labels: tuple[str, ...] = ()

  def __post_init__(self):
    super().__post_init__()
    if self.intents:
      supervised.check_labels("intents", self.intents)
    if self.labels:
      supervised.check_labels("labels", self.labels)


@dataclasses.dataclass(frozen=True)
class Frame:
  """What a sentence says, as far as a machine is to act on it.

  Attributes:
    intent: the likeliest.
    probability: the model's for the intent, from 0 to 1.
    slots: what the sentence fills them with, in order.
    words: all words, with their tags.
  """

  intent: str
  probability: float
  slots: list[Entity]
  words: list[Word]


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
    head: intents and labels; with data, those of the head to go on from.
    data: what to learn from; None to predict only.
    seed: not used.

  Raises:
    UserError: the data cannot be read, or are not for this task.
  """
  del seed
  labelled = data and supervised.read(data, FIELDS)
  if labelled:
    head = Head(
      supervised.labels(
        data.intents,
        head.intents if head else (),
        labelled.found(_intents),
      ),
      word_labels.names(
        data.labels,
        head.labels if head else (),
        labelled.found(word_labels.tags),
      ),
      rows.max_length(config, data.max_length),
    )
  head = head or Head()
  longest = rows.max_length(config, head.max_length)
  targets = {
    "intents": np.zeros((), np.int32),
    "intent_weights": np.zeros((), np.float32),
  }
  task = Task(
    name="dialogue",
    config=config,
    tokenizer=tokenizer,
    model=heads.JointClassifier(config, len(head.intents), len(head.labels)),
    blank=rows.blank(word_labels.blank_targets() | targets),
    loss=loss,
    metrics=metrics,
    prepare=functools.partial(prepare, tokenizer, longest, head),
    answer=functools.partial(answer, head),
    join=join,
    axes=word_labels.AXES,
    score=score,
    baselines=baselines,
    head=head,
  )
  return supervised.with_data(task, data, labelled, longest)


def _intents(record: Record) -> list[str]:
  return [fields.label(record["label"])]


def _intent(head: Head, record: Record) -> int:
  return fields.index(
    "label", record["label"], head.intents, "config.data.intents"
  )


def prepare(
  tokenizer: Tokenizer | None, max_length: int, head: Head, record: Record
) -> list[Batch]:
  """A sentence, in windows where it is longer than the longest row.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    head: intents and labels.
    record: `text`, or instead `words`, a list of texts; then maybe the gold
      `tags`, a name for each. With either maybe `label`, the gold intent.

  Raises:
    UserError: a field is missing or something else, the intent or a tag is
      unknown, or there is no vocabulary.
  """
  examples = word_labels.prepare(tokenizer, max_length, head.labels, record)
  intent, weight = 0, 0
  if "label" in record:
    intent, weight = _intent(head, record), 1
  return [
    dataclasses.replace(
      example,
      targets={
        **example.targets,
        "intents": np.array(intent, np.int32),
        "intent_weights": np.array(0 if number else weight, np.float32),
      },
    )
    for number, example in enumerate(examples)
  ]


class _Heard(NamedTuple):
  """What a window answers, yet to be joined."""

  record: Record
  intent: str
  probability: float
  words: list[Word]


def answer(
  head: Head, outputs: JointOutputs, batch: Batch, records: Sequence[Record]
) -> Sequence[_Heard]:
  """For each row its intent and words, which `join` makes one answer of.

  Args:
    head: intents and labels.
    outputs: the model's.
    batch: what they are for.
    records: of its rows.
  """
  intents = zip(*word_labels.likeliest(outputs.intents))
  found = word_labels.read(head.labels, outputs.slots, batch, records)
  return [
    _Heard(record, head.intents[intent], probability, words)
    for record, (intent, probability), words in zip(records, intents, found)
  ]


def join(answers: Sequence[_Heard]) -> Frame:
  """The intent that the first window tells, and the words of all."""
  first = answers[0]
  words = word_labels.join(first.record, [window.words for window in answers])
  slots = word_labels.entities(first.record, words)
  return Frame(first.intent, first.probability, slots, words)


def loss(outputs: JointOutputs, batch: Batch) -> dict[str, Mean]:
  """Cross-entropies of intents and of the words' tags, in nats.

  Each is a mean of its own, and both count the same.
  """
  targets = batch.targets
  intents = losses.cross_entropy(outputs.intents, targets["intents"])
  slots = losses.cross_entropy(outputs.slots, targets["labels"])
  return {
    "intent_loss": losses.mean(intents, targets["intent_weights"]),
    "slot_loss": losses.mean(slots, targets["label_weights"]),
  }


def metrics(outputs: JointOutputs, batch: Batch) -> dict[str, Mean]:
  """The shares of intents and of words' tags that are right."""
  targets = batch.targets
  intents = outputs.intents.argmax(-1) == targets["intents"]
  slots = outputs.slots.argmax(-1) == targets["labels"]
  return {
    "intent_accuracy": losses.mean(intents, targets["intent_weights"]),
    "slot_accuracy": losses.mean(slots, targets["label_weights"]),
  }


def score(
  head: Head, answers: Sequence[Frame], records: Sequence[Record]
) -> dict[str, float]:
  """How well sentences are understood, from 0 to 1.

  Returns:
    `sentence_accuracy`, the share of sentences with the right intent and no
    wrong tag, as Goo et al. (2018), "Slot-Gated Modeling for Joint Slot Filling
    and Intent Prediction", count it; `intent_accuracy`; `slot_precision`,
    `slot_recall`, `slot_f1` and `slot_accuracy` (of words), see
    `scores.entities`.
  """
  del head
  gold = [word_labels.tags(record) for record in records]
  predicted = [[word.label for word in frame.words] for frame in answers]
  slots = scores.score(gold, predicted)
  right = [
    frame.intent == fields.label(record["label"])
    for frame, record in zip(answers, records)
  ]
  whole = [x and g == p for x, g, p in zip(right, gold, predicted)]
  return {
    "sentence_accuracy": float(np.mean(whole)),
    "intent_accuracy": float(np.mean(right)),
    **{f"slot_{name}": value for name, value in slots.items()},
  }


def baselines(records: Sequence[Record]) -> dict[str, float]:
  """What always giving the commonest intent would score."""
  counts = collections.Counter(fields.label(r["label"]) for r in records)
  return {
    "intent_accuracy_majority_baseline": max(counts.values()) / counts.total()
  }
