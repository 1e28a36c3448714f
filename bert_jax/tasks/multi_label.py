"""Any number of labels for a text or a pair of texts.

The targets of a batch:

  labels: float32 [batch, labels], 1 for each label that a row has, 0 else.
  label_weights: float32 [batch], 0 where a row counts nothing.
"""

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import supervised
from bert_jax.tasks.common import fields, losses, rows, sequences
from bert_jax.tasks.scores import multi_label as scores
from bert_jax.tasks.supervised import load_tokenizer
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean

__all__ = ["Data", "Head", "load_tokenizer", "make"]

FIELDS = supervised.Fields(
  ("text", "pair", "labels"), optional=("pair",), lists=("labels",)
)
_USUAL = 0.5


@dataclasses.dataclass(frozen=True)
class Head:
  """What makes the head.

  Attributes:
    labels: the names of the labels.
    max_length: longer texts are cut to so many tokens, special tokens
      included; 0 is the longest that the encoder takes.
    thresholds: a text has a label whose probability is at least this, one a
      label; none given is 0.5 for all.
  """

  labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
  max_length: int = 0
  thresholds: tuple[float, ...] = ()

  def __post_init__(self):
    supervised.check_labels("labels", self.labels)
    supervised.check_max_length(self.max_length)
    thresholds = sequences.one_each(
      "thresholds", self.thresholds, self.labels, _USUAL
    )
    object.__setattr__(self, "thresholds", thresholds)


@dataclasses.dataclass(frozen=True)
class Data(supervised.Data):
  """The section `config.data`: records with `text`, `labels`, maybe `pair`.

  Besides these, the fields of `supervised.Data`.

  Attributes:
    labels: their names in the order of the head; by default those in the
      training records, sorted.
  """

  labels: tuple[str, ...] = ()

  def __post_init__(self):
    super().__post_init__()
    if self.labels:
      supervised.check_labels("labels", self.labels)


@dataclasses.dataclass(frozen=True)
class Label:
  """A label that a text may have.

  Attributes:
    label: its name.
    probability: the model's, from 0 to 1, that the text has it.
    chosen: whether that is enough, by the label's threshold.
  """

  label: str
  probability: float
  chosen: bool


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
      data.labels, head.labels if head else (), labelled.found(_gold)
    )
    head = Head(names, rows.max_length(config, data.max_length))
  head = head or Head()
  longest = rows.max_length(config, head.max_length)
  task = Task(
    name="multi_label",
    config=config,
    tokenizer=tokenizer,
    model=heads.SequenceClassifier(config, len(head.labels)),
    blank=rows.blank(
      {
        "labels": np.zeros(len(head.labels), np.float32),
        "label_weights": np.zeros((), np.float32),
      }
    ),
    loss=loss,
    metrics=metrics,
    prepare=functools.partial(prepare, tokenizer, longest, head.labels),
    answer=functools.partial(answer, head),
    axes=grouping.Axes(fixed=frozenset({"labels"})),
    score=score,
    baselines=baselines,
    tune=functools.partial(tune, head),
    head=head,
  )
  return supervised.with_data(task, data, labelled, longest)


def prepare(
  tokenizer: Tokenizer | None,
  max_length: int,
  labels: Sequence[str],
  record: Record,
) -> list[Batch]:
  """A text or a pair of texts, with its targets where there are gold labels.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    labels: their names.
    record: `text`, `pair` where there are two, and the gold `labels` if any.

  Raises:
    UserError: a label is unknown; or as `sequences.prepare`.
  """
  targets = {}
  if "labels" in record:
    row = np.zeros(len(labels), np.float32)
    for name in _gold(record):
      row[fields.index("labels", name, labels)] = 1
    targets = {"labels": row, "label_weights": np.ones((), np.float32)}
  return sequences.prepare(tokenizer, max_length, record, targets)


def _gold(record: Record) -> list[str]:
  """The names of a record's labels, maybe none."""
  given = record["labels"]
  if not isinstance(given, list | tuple):
    raise UserError(
      f"the field 'labels': expected a list of labels, got {given!r:.60}"
    )
  return [fields.label(name) for name in given]


def answer(
  head: Head,
  outputs: Float[Array, "batch labels"],
  batch: Batch,
  records: Sequence[Record],
  top_k: int | None = None,
) -> Sequence[list[Label]]:
  """For each row its labels, the likeliest first.

  Args:
    head: the labels and their thresholds.
    outputs: the model's.
    batch: what they are for.
    records: of its rows.
    top_k: how many labels; None for all.

  Raises:
    UserError: `top_k` is no whole number above 0.
  """
  del batch
  probabilities = jax.nn.sigmoid(outputs)
  return [
    [Label(head.labels[id], p, p >= head.thresholds[id]) for id, p in row]
    for row in sequences.ranked(probabilities, len(records), top_k)
  ]


def loss(
  outputs: Float[Array, "batch labels"], batch: Batch
) -> dict[str, Mean]:
  """Binary cross-entropy, in nats, the mean over the labels.

  As `BertForSequenceClassification` has it for this problem.
  """
  values = losses.binary_cross_entropy(outputs, batch.targets["labels"])
  weights = batch.targets["label_weights"]
  return {"multi_label_loss": losses.mean(values.mean(-1), weights)}


def metrics(
  outputs: Float[Array, "batch labels"], batch: Batch
) -> dict[str, Mean]:
  """The share of labels, each by itself, that 0.5 as threshold gets right."""
  targets = batch.targets
  right = (outputs > 0) == (targets["labels"] > 0)
  weights = targets["label_weights"]
  return {"label_accuracy": losses.mean(right.mean(-1), weights)}


def score(
  head: Head,
  answers: Sequence[Sequence[Label]],
  records: Sequence[Record],
) -> dict[str, float]:
  """What `scores.score` has, by the thresholds of the head.

  Where these were tuned on the same records, they flatter; `micro_f1_untuned`
  and `macro_f1_untuned` are what 0.5 for all labels gives.
  """
  gold, probabilities = _arrays(head, answers, records)
  usual = np.full(len(head.labels), _USUAL)
  untuned = scores.score(gold, probabilities, usual)
  found = scores.score(gold, probabilities, head.thresholds)
  return {
    "micro_f1": found["micro_f1"],  # First, as what the task is known by.
    **found,
    **{f"{name}_untuned": untuned[name] for name in ("micro_f1", "macro_f1")},
  }


def tune(
  head: Head,
  answers: Sequence[Sequence[Label]],
  records: Sequence[Record],
) -> Head:
  """The head with the thresholds of the best F1 of each label."""
  thresholds = scores.tune_thresholds(*_arrays(head, answers, records))
  return dataclasses.replace(head, thresholds=tuple(thresholds.tolist()))


def _arrays(
  head: Head,
  answers: Sequence[Sequence[Label]],
  records: Sequence[Record],
) -> tuple[Float[np.ndarray, "rows labels"], Float[np.ndarray, "rows labels"]]:
  """Which labels the records have, and the probabilities in the answers."""
  ids = {label: id for id, label in enumerate(head.labels)}
  gold, probabilities = np.zeros((2, len(records), len(ids)))
  for row, (found, record) in enumerate(zip(answers, records, strict=True)):
    gold[row, [ids[name] for name in _gold(record)]] = 1
    for label in found:
      probabilities[row, ids[label.label]] = label.probability
  return gold, probabilities


def baselines(records: Sequence[Record]) -> dict[str, float]:
  """What the best answer scores that is the same for all records.

  For `micro_f1` it is some of the commonest labels, as many as are best; for
  `subset_accuracy` the commonest set of labels.
  """
  sets = [frozenset(_gold(record)) for record in records]
  counts: Mapping[Any, int] = collections.Counter(n for s in sets for n in s)
  right = np.cumsum(sorted(counts.values(), reverse=True))
  given = len(sets) * np.arange(1, len(right) + 1)
  f1 = 2 * right / (given + sum(counts.values()))
  commonest = max(collections.Counter(sets).values())
  return {
    "micro_f1_majority_baseline": float(f1.max(initial=0)),
    "subset_accuracy_majority_baseline": commonest / len(sets),
  }
