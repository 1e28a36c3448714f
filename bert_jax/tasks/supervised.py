"""What tasks that learn from labelled records have in common."""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert_jax import text
from bert_jax.data import augmentation, grouping, records
from bert_jax.data.augmentation import AugmentationConfig
from bert_jax.data.sources.labelled import Record
from bert_jax.settings import UserError
from bert_jax.tasks.task import HeldOut, Task, TrainingData
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class Data(records.RecordsConfig):
  """The section `config.data` of a recipe; tasks add to it.

  Besides these, the fields of `RecordsConfig`.

  Attributes:
    max_length: the longest row, special tokens included.
    length_buckets: the row lengths that batches may have, rising; each one is
      compiled for.
    eval_fraction: where `eval` names nothing, the share of the training records
      that is kept from training for it, drawn with the seed 0.
    tokenizer: the folder of a vocabulary, where `config.init` names none.
    augmentation: changed copies of the training records.
  """

  max_length: int = 128
  length_buckets: tuple[int, ...] = grouping.LENGTH_BUCKETS
  eval_fraction: float = 0.1
  tokenizer: str | None = None
  augmentation: AugmentationConfig = dataclasses.field(
    default_factory=AugmentationConfig
  )

  def __post_init__(self):
    super().__post_init__()
    if self.max_length < 1:
      raise ValueError(
        f"max_length: expected at least 1, got {self.max_length}"
      )
    if not 0 < self.eval_fraction < 1:
      raise ValueError(
        "eval_fraction: expected more than 0 and less than 1, got"
        f" {self.eval_fraction}"
      )
    buckets = list(self.length_buckets)
    if not buckets or buckets != sorted({*buckets}):
      raise ValueError(
        f"length_buckets: expected rising lengths, got {buckets}"
      )


def load_tokenizer(data: Data) -> Tokenizer | None:
  """The vocabulary that the data name; that of `config.init` has none."""
  return text.load(data.tokenizer) if data.tokenizer else None


class Fields(NamedTuple):
  """The fields of a task's records.

  Attributes:
    names: all of them, in the order of a table without a header.
    optional: those that a record may lack.
    lists: those that are lists, of a table's column several values.
  """

  names: Sequence[str]
  optional: Collection[str] = ()
  lists: Collection[str] = ()


class Labelled(NamedTuple):
  """The records that a task learns from, and those it is measured on.

  Attributes:
    train: to learn from.
    evaluation: to be measured on.
    is_split: whether the latter were taken from the former.
  """

  train: records.Records
  evaluation: records.Records
  is_split: bool = False

  def found(self, of: Callable[[Record], Iterable[str]]) -> list[str]:
    """The labels in the training records; of a split, in all of them.

    Args:
      of: from a record to its labels; it may refuse one.

    Raises:
      UserError: as `Records.each`.
    """
    parts = (self.train, self.evaluation)[: 1 + self.is_split]
    return [
      label for part in parts for found in part.each(of)[1] for label in found
    ]

  def values(self, field: str) -> list[Any]:
    """What the training records have in a field."""
    found = (row.record.get(field) for row in self.train.rows)
    return [value for value in found if value is not None]


def read(data: Data, fields: Fields) -> Labelled:
  """Reads the labelled records that a recipe names.

  Raises:
    UserError: see `records.read`; or there is a single record for both.
  """
  train = read_split(data, fields, "train")
  if data.eval:
    return Labelled(train, read_split(data, fields, "eval"))
  if len(train.rows) < 2:
    raise UserError(
      "config.data.train: one record, from which none can be held out; name"
      " those to evaluate on as config.data.eval"
    )
  count = max(round(data.eval_fraction * len(train.rows)), 1)
  order = np.random.default_rng(0).permutation(len(train.rows))
  held_out = {*order[:count].tolist()}
  kept, taken = [], []
  for number, row in enumerate(train.rows):
    (taken if number in held_out else kept).append(row)
  return Labelled(
    dataclasses.replace(train, rows=kept),
    dataclasses.replace(train, rows=taken, skipped=[]),
    is_split=True,
  )


def read_split(
  data: Data, fields: Fields, split: records.Split
) -> records.Records:
  """Reads one of the two; see `records.read`."""
  return records.read(
    data,
    split,
    fields.names,
    fields.lists,
    fields.optional,
  )


def check_labels(field: str, labels: Sequence[str]) -> None:
  """Refuses the labels of a head where there are none, or one twice.

  Raises:
    ValueError: in the form that `settings.from_dict` takes up.
  """
  if not labels:
    raise ValueError(f"{field}: expected at least one, got none")
  if len({*labels}) < len(labels):
    raise ValueError(f"{field}: expected no name twice, got {list(labels)}")


def check_max_length(max_length: int) -> None:
  """As `check_labels`, for the longest row of a head; 0 has a meaning."""
  if max_length < 0:
    raise ValueError(f"max_length: expected at least 0, got {max_length}")


def labels(
  given: Sequence[str],
  pretrained: Sequence[str],
  found: Sequence[str],
) -> tuple[str, ...]:
  """The labels of a head that is to be trained.

  Args:
    given: by the config; none if it leaves them to the data.
    pretrained: of the head that training goes on from, if there is one; they
      stay where they cover the data, so that its weights keep their meaning.
    found: all in the records.

  Raises:
    UserError: there are no labels.
  """
  if given:
    return tuple(given)
  if pretrained and set(found) <= set(pretrained):
    return tuple(pretrained)
  if not found:
    raise UserError("config.data.train: there are no labels in it")
  # Numbers in their order, so that a label "2" comes before "10".
  by_number = all(label.isdecimal() for label in found)
  key = int if by_number else str
  return tuple(sorted({*found}, key=key))


def with_data(
  task: Task,
  data: Data | None,
  labelled: Labelled | None,
  longest: int,
  weigh: Callable[[Record, Batch], Batch] = lambda record, example: example,
) -> Task:
  """Gives a task what it learns from: every record is prepared here.

  Args:
    task: prepares records with their gold fields.
    data: the config; None where the task only predicts.
    labelled: the records; None gives the task as it is.
    longest: the longest row that the task makes.
    weigh: from a training record and its example to the example as it is to
      be learned.

  Raises:
    UserError: a record is one that the task does not take, and bad ones are
      not to be skipped; or none is left.
  """
  if labelled is None:
    return task
  train, learned = labelled.train.each(task.prepare)
  changed = augmentation.augment(
    [row.record for row in train.rows], data.augmentation
  )
  evaluation, asked = labelled.evaluation.each(task.prepare)
  examples = [
    weigh(row.record, example)
    for row, made in zip(train.rows, learned)
    for example in made
  ] + [
    weigh(record, example)
    for record in changed
    for example in task.prepare(record)
  ]
  lengths = (*(n for n in data.length_buckets if n < longest), longest)
  mean = float(np.mean([example.token_ids.size for example in examples]))
  return dataclasses.replace(
    task,
    data=TrainingData(
      length=mean,
      predictions=0,
      training=lambda size, seed, start: grouping.LengthGroupedStream(
        examples, task.axes, lengths, size, seed, start
      ),
      evaluation=lambda: HeldOut(
        [row.record for row in evaluation.rows], asked, lengths
      ),
      fingerprint=lambda: records.fingerprint(data, "train"),
      baselines=task.baselines,
      notes=(
        f"{len(train.rows):,} training and {len(evaluation.rows):,}"
        f" held-out records; {mean:.1f} tokens a row",
        *([f"{len(changed):,} changed copies of records"] if changed else []),
        *_skipped(train, evaluation),
      ),
    ),
  )


def _skipped(*parts: records.Records) -> list[str]:
  return [
    f"{len(part.skipped):,} records skipped of config.data.{part.split}; the"
    f" first: {part.skipped[0]}"
    for part in parts
    if part.skipped
  ]
