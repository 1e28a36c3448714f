"""Training on labelled records: reading, fitting, examples."""

import dataclasses
import functools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from bert_jax import settings
from bert_jax.batch import Batch
from bert_jax.data import augmentation, grouping, records
from bert_jax.data.augmentation import AugmentationConfig
from bert_jax.data.records import Splits
from bert_jax.data.sources.labelled import BadRow, Record, Row
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks.data import EvalRecords, TrainingData
from bert_jax.tasks.inputs import fields
from bert_jax.tasks.inputs.rows import UnknownTokens
from bert_jax.tasks.metrics import entities
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
    eval_group: a field of the records, such as that of a document or an author.
      Records with the same value are held out together, so that none of the
      evaluation is known from training. Empty draws each record by itself.
    tokenizer: the folder of a vocabulary, where `config.init` names none.
    augmentation: changed copies of the training records.
    targets: the options of each target, by its name: the fields of its class.
  """

  length_buckets: tuple[int, ...] = grouping.LENGTH_BUCKETS
  eval_fraction: float = 0.1
  eval_group: str = ""
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


def _default(value: Any) -> Any:
  """A field with this default, which may be a mapping."""
  if isinstance(value, Mapping):
    return dataclasses.field(default_factory=lambda: dict(value))
  return dataclasses.field(default=value)


def config_class(task: Task) -> type[LabelledConfig]:
  """The dataclass of a task's section `config.data`."""
  inputs = [
    (
      field.name,
      field.type,
      _default(getattr(task.inputs, field.name)),
    )
    for field in _input_fields(task)
  ]
  return dataclasses.make_dataclass(
    f"LabelledConfig_{task.name}",
    [
      *inputs,
      ("eval_group", str, dataclasses.field(default=task.inputs.GROUP)),
    ],
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
  held_out = _held_out(
    train,
    config.eval_group,
    config.eval_fraction,
    config.eval_group in task.inputs.OPTIONAL,
  )
  kept, taken = (
    [row for n, row in enumerate(train.rows) if (n in held_out) == is_taken]
    for is_taken in (False, True)
  )
  return Splits(
    dataclasses.replace(train, rows=kept),
    dataclasses.replace(train, rows=taken, skipped=[]),
    is_split=True,
  )


def _held_out(
  train: records.Records, group: str, fraction: float, is_optional: bool
) -> Collection[int]:
  """The records to hold out: groups in random order, as long as they fit.

  Where none fits, the smallest group is held out. `is_optional` tells whether
  the field of the groups may be missing in all records.

  Raises:
    UserError: there is one group only, or no record has the field.
  """
  if len(train.rows) < 2:
    raise UserError(
      "config.data.train: one record, from which none can be held out; name"
      " those to evaluate on as config.data.eval"
    )
  groups: dict[Any, list[int]] = {}
  for number, row in enumerate(train.rows):
    value = row.record.get(group)
    # Without a value, a record is its own group.
    key = number if value is None else json.dumps(value)
    groups.setdefault(key, []).append(number)
  has_groups = any(isinstance(key, str) for key in groups)
  if group and not has_groups and not is_optional:
    raise UserError(
      f"config.data.eval_group: no record has the field {group!r}; name its"
      f" column as config.data.columns.{group}"
    )
  if len(groups) < 2:
    raise UserError(
      f"config.data.eval_group: all records have the same {group!r}, so none"
      " can be held out; name those to evaluate on as config.data.eval, or draw"
      " each record by itself with an empty eval_group"
    )
  members = [*groups.values()]
  shuffled = [
    members[i] for i in np.random.default_rng(0).permutation(len(members))
  ]
  left = max(round(fraction * len(train.rows)), 1)
  taken: set[int] = set()
  for numbers in shuffled:
    if len(numbers) <= left:
      taken.update(numbers)
      left -= len(numbers)
  return taken or {*min(shuffled, key=len)}


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
  given, known = [task.inputs, *task.targets.values()], task.record_fields
  if config.eval_group and config.eval_group not in known:
    also = (*also, config.eval_group)
  return records.read(
    config,
    split,
    tuple(dict.fromkeys([*known, *also])),
    {name for part in given for name in part.LISTS},
    {name for part in given for name in part.OPTIONAL} | {*also},
  )


def stream_inputs(
  config: records.RecordsConfig, task: Task
) -> Iterator[Row | BadRow]:
  """The records of `config.eval` to predict for, with all named columns.

  Gold fields are columns like others.

  Raises:
    UserError: see `records.stream`.
  """
  several = bool(task.parts)
  given = [part.inputs for part in task.parts.values()] or [task.inputs]
  names = [x for part in given for x in (*part.FIELDS, *part.PREDICTION)]
  optional = {x for part in given for x in (*part.OPTIONAL, *part.PREDICTION)}
  return records.stream(
    config,
    "eval",
    tuple(dict.fromkeys(names)),
    {name for part in given for name in part.LISTS},
    {*names} if several else optional,
    rest=True,
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


def _entities(tags: Sequence[str]) -> list[tuple[int, int]]:
  """The entities of tagged words: the first word of each, and one past it.

  Tags that are no part of a scheme such as IOB, as parts of speech, have none.
  """
  names = [fields.label(tag) for tag in tags]
  if not any(map(entities.in_scheme, names)):
    return []
  found = entities.spans(range(len(names)), entities.parse(names))
  return [(span.start, span.end) for span in found]


class _Cuts:
  """Preprocesses training records, and counts those that were cut."""

  def __init__(self, task: Task):
    self._task = task
    self._counts: dict[str, tuple[int, int]] = {}

  def learned(self, record: Record) -> list[Batch]:
    """The examples of a record to learn from."""
    rows = self._task.rows(record, training=True, labelled=True)
    for cut in rows[0].cuts:
      count, tokens = self._counts.get(cut.field, (0, 0))
      lost = cut.tokens - cut.kept
      self._counts[cut.field] = (count + 1, tokens + lost)
    return [row.example for row in rows]

  def notes(self, total: int) -> list[str]:
    """A line for each field that was cut in one of `total` records."""
    return [
      f"{field} is cut in {count:,} of {total:,} training records, by"
      f" {tokens / count:,.0f} tokens in the mean"
      for field, (count, tokens) in self._counts.items()
    ]


def _predictions(task: Task, examples: Sequence[Batch]) -> float:
  """The mean number of a row's positions that predict tokens."""
  names = task.axes.slots & {f"{name}/positions" for name in task.targets}
  counts = [sum(x.targets[name].size for name in names) for x in examples]
  return float(np.mean(counts))


def _training_data(
  task: Task, config: LabelledConfig, labelled: Splits
) -> TrainingData:
  """Preprocesses every record."""
  cuts = _Cuts(task)
  train, examples_of = labelled.train.each(cuts.learned)
  changed = augmentation.augment(
    [row.record for row in train.rows], config.augmentation, _entities
  )
  evaluation, asked = labelled.evaluation.each(
    functools.partial(task.preprocess, labelled=True)
  )
  examples = [example for made in examples_of for example in made]
  notes = cuts.notes(len(train.rows))
  unknown = UnknownTokens(task.tokenizer)
  unknown.add(examples)
  examples += [x for record in changed for x in cuts.learned(record)]
  # Masked copies of tokens do not count for the longest row of a task.
  longest = max(x.token_ids.shape[-1] for x in examples)
  longest = max(longest, task.inputs.limit(task.config))
  buckets = (*(n for n in config.length_buckets if n < longest), longest)
  mean = float(np.mean([example.token_ids.size for example in examples]))
  return TrainingData(
    max_length=mean,
    predictions=_predictions(task, examples),
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
      *notes,
      *unknown.notes("config.data.train"),
      *([f"{len(changed):,} changed copies of records"] if changed else []),
      *task.unseen([row.record for row in evaluation.rows]),
      *train.notes,
      *evaluation.notes,
    ),
  )
