"""Training on labelled records: reading, fitting, examples."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from bert_jax import settings
from bert_jax.data import augmentation, grouping, records
from bert_jax.data.augmentation import AugmentationConfig
from bert_jax.data.records import Splits
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks.data import EvalRecords, TrainingData
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class LabelledConfig(records.RecordsConfig):
  """The section `config.data` of a task that learns from labelled records.

  Besides these, the fields of `RecordsConfig` and of the task's inputs.

  Attributes:
    length_buckets: the row lengths that batches may have, rising; each one is
      compiled for.
    eval_fraction: where `eval` names nothing, the share of the training records
      that is kept from training for it, drawn with the seed 0.
    tokenizer: the folder of a vocabulary, where `config.init` names none.
    augmentation: changed copies of the training records.
    targets: the options of each target, by its name: the fields of its class.
  """

  length_buckets: tuple[int, ...] = grouping.LENGTH_BUCKETS
  eval_fraction: float = 0.1
  tokenizer: str | None = None
  augmentation: AugmentationConfig = dataclasses.field(
    default_factory=AugmentationConfig
  )
  targets: Mapping[str, Mapping[str, Any]] = dataclasses.field(
    default_factory=dict
  )

  TASK: ClassVar[Task]

  def __post_init__(self):
    super().__post_init__()
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
    self.task()

  def task(self, where: str = "config.data") -> Task:
    """The task with the options of this section.

    Raises:
      UserError: an option is unknown, or has a wrong value.
    """
    known = self.TASK.targets
    for name in self.targets:
      settings.choice(f"{where}.targets", name, known)
    given = {
      field.name: getattr(self, field.name)
      for field in _input_fields(self.TASK)
    }
    return dataclasses.replace(
      self.TASK,
      inputs=dataclasses.replace(self.TASK.inputs, **given),
      targets={
        name: settings.replace(
          target, self.targets.get(name, {}), f"{where}.targets.{name}"
        )
        for name, target in known.items()
      },
    )


def _input_fields(task: Task) -> list[dataclasses.Field]:
  """The fields of a task's inputs that a config can set."""
  return [
    field
    for field in dataclasses.fields(task.inputs)
    if field.name not in task.inputs.TRAINING_ONLY
  ]


def config_class(task: Task) -> type[LabelledConfig]:
  """The dataclass of a task's section `config.data`."""
  fields = [
    (
      field.name,
      field.type,
      dataclasses.field(default=getattr(task.inputs, field.name)),
    )
    for field in _input_fields(task)
  ]
  return dataclasses.make_dataclass(
    f"LabelledConfig_{task.name}",
    fields,
    bases=(LabelledConfig,),
    namespace={
      "TASK": task,
      "SECTIONS": {
        f"targets.{name}": type(target) for name, target in task.targets.items()
      },
      "__doc__": f"{LabelledConfig.__doc__}\n\n{type(task.inputs).__doc__}",
    },
    frozen=True,
  )


def read(config: LabelledConfig, task: Task) -> Splits:
  """Reads the labelled records of a recipe.

  Raises:
    UserError: see `records.read`; or there is a single record for both.
  """
  train = read_split(config, task, "train")
  if config.eval:
    return Splits(train, read_split(config, task, "eval"))
  if len(train.rows) < 2:
    raise UserError(
      "config.data.train: one record, from which none can be held out; name"
      " those to evaluate on as config.data.eval"
    )
  count = max(round(config.eval_fraction * len(train.rows)), 1)
  order = np.random.default_rng(0).permutation(len(train.rows))
  kept, taken = (
    [train.rows[i] for i in np.sort(part)]
    for part in (order[count:], order[:count])
  )
  return Splits(
    dataclasses.replace(train, rows=kept),
    dataclasses.replace(train, rows=taken, skipped=[]),
    is_split=True,
  )


def read_split(
  config: LabelledConfig,
  task: Task,
  split: records.Split,
  also: tuple[str, ...] = (),
) -> records.Records:
  """Reads the records of one split; see `records.read`.

  Args:
    config: where they are.
    task: says which fields they have.
    split: which of them.
    also: further fields that they may have.
  """
  given = [task.inputs, *task.targets.values()]
  return records.read(
    config,
    split,
    tuple(dict.fromkeys([*task.record_fields, *also])),
    {name for part in given for name in part.LISTS},
    {name for part in given for name in part.OPTIONAL} | {*also},
  )


def make(
  config: LabelledConfig,
  encoder: EncoderConfig,
  tokenizer: Tokenizer | None,
  pretrained: Task | None = None,
) -> tuple[Task, TrainingData]:
  """A task that is fitted to its records, and these as training data.

  Args:
    config: the section `config.data`.
    encoder: the encoder's configuration.
    tokenizer: the vocabulary.
    pretrained: the task of the initial model, if it is the same kind of task.

  Raises:
    UserError: the records cannot be read, are not of this task, or none is
      left.
  """
  task = config.task().bind(encoder, tokenizer)
  labelled = read(config, task)
  inputs = task.inputs.fit(
    [row.record for row in labelled.train.rows],
    pretrained.inputs if pretrained else None,
  )
  inputs = dataclasses.replace(inputs, max_length=inputs.limit(encoder))
  known = pretrained.targets if pretrained else {}
  task = dataclasses.replace(
    task,
    inputs=inputs,
    targets={
      name: target.fit(labelled, known.get(name))
      for name, target in task.targets.items()
    },
  )
  return task, _training_data(task, config, labelled)


def _training_data(
  task: Task, config: LabelledConfig, labelled: Splits
) -> TrainingData:
  """Preprocesses every record."""

  def learned(record: Record) -> list[Any]:
    return task.preprocess(record, training=True, labelled=True)

  train, examples_of = labelled.train.each(learned)
  changed = augmentation.augment(
    [row.record for row in train.rows], config.augmentation
  )
  evaluation, asked = labelled.evaluation.each(
    functools.partial(task.preprocess, labelled=True)
  )
  examples = [example for made in examples_of for example in made]
  examples += [example for record in changed for example in learned(record)]
  longest = task.inputs.limit(task.config)
  buckets = (*(n for n in config.length_buckets if n < longest), longest)
  mean = float(np.mean([example.token_ids.size for example in examples]))
  return TrainingData(
    max_length=mean,
    predictions=0,
    training=lambda size, seed, start: grouping.LengthGroupedStream(
      examples, task.axes, buckets, size, seed, start
    ),
    evaluation=lambda: EvalRecords(
      [row.record for row in evaluation.rows], asked, buckets
    ),
    fingerprint=lambda: records.fingerprint(config, "train"),
    baselines=task.baselines,
    notes=(
      f"{len(train.rows):,} training and {len(evaluation.rows):,} evaluation"
      f" records; {mean:.1f} tokens a row",
      *([f"{len(changed):,} changed copies of records"] if changed else []),
      *task.unseen([row.record for row in evaluation.rows]),
      *(
        f"{len(part.skipped):,} records skipped of config.data.{part.split};"
        f" the first: {part.skipped[0]}"
        for part in (train, evaluation)
        if part.skipped
      ),
    ),
  )
