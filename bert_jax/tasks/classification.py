"""One label for a text or a pair of texts.

The targets of a batch:

  labels: int32 [batch], each row's label.
  label_weights: float32 [batch], 0 where a row counts nothing.
"""

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from bert_jax.data.sources.labelled import Record
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import supervised
from bert_jax.tasks.common import fields, losses, rows, sequences
from bert_jax.tasks.scores import labels as scores
from bert_jax.tasks.supervised import load_tokenizer
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean

__all__ = ["Data", "Head", "load_tokenizer", "make"]

FIELDS = supervised.Fields(("text", "pair", "label"), optional=("pair",))


@dataclasses.dataclass(frozen=True)
class Head:
  """What makes the head.

  Attributes:
    labels: the names of the labels.
    max_length: longer texts are cut to so many tokens, special tokens
      included; 0 is the longest that the encoder takes.
  """

  labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
  max_length: int = 0

  def __post_init__(self):
    supervised.check_labels("labels", self.labels)
    supervised.check_max_length(self.max_length)


@dataclasses.dataclass(frozen=True)
class Data(supervised.Data):
  """The section `config.data`: records with `text`, `label` and maybe `pair`.

  Besides these, the fields of `supervised.Data`.

  Attributes:
    labels: their names in the order of the head; by default those in the
      training records, sorted.
    class_weights: how much a label's training rows count, by its name, 1 if
      not given; `balanced` makes all labels count the same together.
    balanced: see `class_weights`.
    label_smoothing: the share of the target that goes evenly to all labels
      (Szegedy et al. 2016, arXiv:1512.00567).
  """

  labels: tuple[str, ...] = ()
  class_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
  balanced: bool = False
  label_smoothing: float = 0.0

  def __post_init__(self):
    super().__post_init__()
    if self.labels:
      supervised.check_labels("labels", self.labels)
    if not 0 <= self.label_smoothing < 1:
      raise ValueError(
        "label_smoothing: expected at least 0 and less than 1, got"
        f" {self.label_smoothing}"
      )
    for name, weight in self.class_weights.items():
      # NaN is not at least 0 either.
      if not isinstance(weight, int | float) or not weight >= 0:
        raise ValueError(
          f"class_weights.{name}: expected a number, at least 0, got {weight!r}"
        )
    if self.balanced and self.class_weights:
      raise ValueError("balanced: give either balanced or class_weights")


@dataclasses.dataclass(frozen=True)
class Label:
  """A label of a text.

  Attributes:
    label: its name.
    probability: the model's, from 0 to 1.
  """

  label: str
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
    head: the labels; with data, those of the head to go on from.
    data: what to learn from; None to predict only.
    seed: not used.

  Raises:
    UserError: the data cannot be read, or are not for this task.
  """
  del seed
  labelled = data and supervised.read(data, FIELDS)
  if labelled:
    names = supervised.labels(
      data.labels, head.labels if head else (), labelled.found(_labels)
    )
    head = Head(names, rows.max_length(config, data.max_length))
  head = head or Head()
  longest = rows.max_length(config, head.max_length)
  task = Task(
    name="classification",
    config=config,
    tokenizer=tokenizer,
    model=heads.SequenceClassifier(config, len(head.labels)),
    blank=rows.blank(
      {
        "labels": np.zeros((), np.int32),
        "label_weights": np.zeros((), np.float32),
      }
    ),
    loss=functools.partial(loss, data.label_smoothing if data else 0.0),
    metrics=metrics,
    prepare=functools.partial(prepare, tokenizer, longest, head.labels),
    answer=functools.partial(answer, head),
    score=score,
    baselines=baselines,
    head=head,
  )
  if not labelled:
    return task
  weigh = functools.partial(_weigh, _class_weights(data, head, labelled))
  return supervised.with_data(task, data, labelled, longest, weigh)


def prepare(
  tokenizer: Tokenizer | None,
  max_length: int,
  labels: Sequence[str],
  record: Record,
) -> list[Batch]:
  """A text or a pair of texts, with its target where there is a gold label.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    labels: their names.
    record: `text`, `pair` where there are two, and the gold `label` if any.

  Raises:
    UserError: the label is unknown; or as `sequences.prepare`.
  """
  targets = {}
  if "label" in record:
    label = fields.index("label", record["label"], labels)
    targets = {
      "labels": np.array(label, np.int32),
      "label_weights": np.ones((), np.float32),
    }
  return sequences.prepare(tokenizer, max_length, record, targets)


def _gold(record: Record) -> str:
  return fields.label(record["label"])


def _labels(record: Record) -> list[str]:
  return [_gold(record)]


def _class_weights(
  data: Data, head: Head, labelled: supervised.Labelled
) -> Float[np.ndarray, " labels"]:
  """How much a row of each label counts in training."""
  counts = collections.Counter(labelled.train.each(_gold)[1])
  if data.balanced:
    total = sum(counts[name] for name in head.labels)
    weights = [
      total / len(head.labels) / max(counts[name], 1) for name in head.labels
    ]
    return np.array(weights, np.float32)
  weights = np.ones(len(head.labels), np.float32)
  for name, weight in data.class_weights.items():
    place = fields.index("config.data.class_weights", name, head.labels)
    weights[place] = weight
  return weights


def _weigh(
  weights: Float[np.ndarray, " labels"], record: Record, example: Batch
) -> Batch:
  del record
  weight = weights[example.targets["labels"]]
  return dataclasses.replace(
    example, targets={**example.targets, "label_weights": weight}
  )


def answer(
  head: Head,
  outputs: Float[Array, "batch labels"],
  batch: Batch,
  records: Sequence[Record],
  top_k: int | None = None,
) -> Sequence[list[Label]]:
  """For each row its labels, the likeliest first.

  Args:
    head: the labels.
    outputs: the model's.
    batch: what they are for.
    records: of its rows.
    top_k: how many labels; None for all.

  Raises:
    UserError: `top_k` is no whole number above 0.
  """
  del batch
  probabilities = jax.nn.softmax(outputs, axis=-1)
  return [
    [Label(head.labels[id], probability) for id, probability in row]
    for row in sequences.ranked(probabilities, len(records), top_k)
  ]


def loss(
  smoothing: float, outputs: Float[Array, "batch labels"], batch: Batch
) -> dict[str, Mean]:
  """Cross-entropy, in nats, as `BertForSequenceClassification` has it.

  Args:
    smoothing: the share of the target that goes evenly to all labels.
    outputs: the logits.
    batch: what they are for.
  """
  values = losses.cross_entropy(outputs, batch.targets["labels"])
  if smoothing:
    even = -jax.nn.log_softmax(outputs, axis=-1).mean(-1)
    values = (1 - smoothing) * values + smoothing * even
  weights = batch.targets["label_weights"]
  return {"classification_loss": losses.mean(values, weights)}


def metrics(
  outputs: Float[Array, "batch labels"], batch: Batch
) -> dict[str, Mean]:
  """The share of labels that are right."""
  targets = batch.targets
  right = outputs.argmax(-1) == targets["labels"]
  return {"accuracy": losses.mean(right, targets["label_weights"])}


def score(
  head: Head,
  answers: Sequence[Sequence[Label]],
  records: Sequence[Record],
) -> dict[str, float]:
  """Accuracy, macro precision, recall and F1, and MCC; see `scores.labels`."""
  gold = [_gold(record) for record in records]
  return scores.score(gold, [found[0].label for found in answers], head.labels)


def baselines(records: Sequence[Record]) -> dict[str, float]:
  """What always giving the commonest label would score."""
  counts = collections.Counter(map(_gold, records))
  return {"accuracy_majority_baseline": max(counts.values()) / len(records)}
