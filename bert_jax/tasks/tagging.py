"""A label for each word of a text: names in it, parts of speech.

The targets of a batch are those of `word_labels`. A word's label is that of
its first piece; a text that is too long for a row makes several, and each of
its words is labelled in the one that sees more of what is around it.
"""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from jaxtyping import Array, Float

from bert_jax.data.sources.labelled import Record
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import supervised
from bert_jax.tasks.common import losses, rows, word_labels
from bert_jax.tasks.common.word_labels import Entity, Word
from bert_jax.tasks.scores import entities as scores
from bert_jax.tasks.supervised import load_tokenizer
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean

__all__ = ["Data", "Entity", "Head", "Word", "load_tokenizer", "make"]

FIELDS = supervised.Fields(("words", "tags"), lists=("words", "tags"))


@dataclasses.dataclass(frozen=True)
class Head:
  """What makes the head.

  Attributes:
    labels: the names of the labels; `O` is for words outside all entities.
    max_length: longer texts are cut to windows of so many tokens, special
      tokens included; 0 is the longest that the encoder takes.
  """

  labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
  max_length: int = 0

  def __post_init__(self):
    supervised.check_labels("labels", self.labels)
    supervised.check_max_length(self.max_length)


@dataclasses.dataclass(frozen=True)
class Data(supervised.Data):
  """The section `config.data`: records with `words` and their `tags`.

  Besides these, the fields of `supervised.Data`.

  Attributes:
    labels: the names of tags in the order of the head; by default those in
      the training records, `O` first and the rest sorted.
  """

  labels: tuple[str, ...] = ()

  def __post_init__(self):
    super().__post_init__()
    if self.labels:
      supervised.check_labels("labels", self.labels)


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
    head: the labels; with data, those of the head to go on from.
    data: what to learn from; None to predict only.
    seed: not used.

  Raises:
    UserError: the data cannot be read, or are not for this task.
  """
  del seed
  labelled = data and supervised.read(data, FIELDS)
  if labelled:
    names = word_labels.names(
      data.labels,
      head.labels if head else (),
      labelled.found(word_labels.tags),
    )
    head = Head(names, rows.max_length(config, data.max_length))
  head = head or Head()
  longest = rows.max_length(config, head.max_length)
  task = Task(
    name="tagging",
    config=config,
    tokenizer=tokenizer,
    model=heads.TokenClassifier(config, len(head.labels)),
    blank=rows.blank(word_labels.blank_targets()),
    loss=loss,
    metrics=metrics,
    prepare=functools.partial(
      word_labels.prepare, tokenizer, longest, head.labels
    ),
    answer=functools.partial(answer, head),
    join=join,
    axes=word_labels.AXES,
    score=score,
    baselines=baselines,
    head=head,
  )
  return supervised.with_data(task, data, labelled, longest)


class _Tagged(NamedTuple):
  """What a window answers, yet to be joined."""

  record: Record
  words: list[Word]
  entities: bool


def answer(
  head: Head,
  outputs: Float[Array, "batch length labels"],
  batch: Batch,
  records: Sequence[Record],
  entities: bool = False,
) -> Sequence[_Tagged]:
  """For each row its words, which `join` makes one answer of.

  Args:
    head: the labels.
    outputs: the model's.
    batch: what they are for.
    records: of its rows.
    entities: whether words that belong together are to be joined, and those
      labelled `O` left out.
  """
  found = word_labels.read(head.labels, outputs, batch, records)
  return [
    _Tagged(record, words, entities) for record, words in zip(records, found)
  ]


def join(answers: Sequence[_Tagged]) -> list[Word] | list[Entity]:
  """The words of all windows, or the entities that they make."""
  first = answers[0]
  found = word_labels.join(first.record, [window.words for window in answers])
  if not first.entities:
    return found
  return word_labels.entities(first.record, found)


def loss(
  outputs: Float[Array, "batch length labels"], batch: Batch
) -> dict[str, Mean]:
  """Cross-entropy of the words' labels, in nats."""
  targets = batch.targets
  values = losses.cross_entropy(outputs, targets["labels"])
  return {"tagging_loss": losses.mean(values, targets["label_weights"])}


def metrics(
  outputs: Float[Array, "batch length labels"], batch: Batch
) -> dict[str, Mean]:
  """The share of words whose label is right."""
  targets = batch.targets
  right = outputs.argmax(-1) == targets["labels"]
  return {"accuracy": losses.mean(right, targets["label_weights"])}


def score(
  head: Head, answers: Sequence[Sequence[Word]], records: Sequence[Record]
) -> dict[str, float]:
  """Precision, recall and F1 of entities, and the accuracy of words.

  See `scores.entities`. For tags that make no entities, such as parts of
  speech, look at the accuracy.
  """
  del head
  found = scores.score(
    [word_labels.tags(record) for record in records],
    [[word.label for word in words] for words in answers],
  )
  return {"f1": found["f1"], **found}  # First, as what the task is known by.


def baselines(records: Sequence[Record]) -> dict[str, float]:
  """What always giving the commonest tag would score."""
  counts = collections.Counter(
    itertools.chain.from_iterable(map(word_labels.tags, records))
  )
  return {"accuracy_majority_baseline": max(counts.values()) / counts.total()}
