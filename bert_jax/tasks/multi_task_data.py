"""The training data of several tasks on one encoder."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_jax import settings
from bert_jax.batch import Batch
from bert_jax.data.mixing import MixedStream
from bert_jax.data.stream import BatchStream
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import labelled
from bert_jax.tasks.data import EvalRecords, TrainingData
from bert_jax.tasks.labelled import LabelledConfig
from bert_jax.tasks.multi_task import ENCODER, MultiTask
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class MultiTaskConfig:
  """The section `config.data` of multi-task training.

  Attributes:
    tasks: by a name of the user's for each part, its `task` and the fields of
      that task's section `config.data`.
    temperature: 1 samples tasks by their size; the higher, the more evenly.
    tokenizer: the folder of a vocabulary, where `config.init` names none.
  """

  tasks: Mapping[str, Mapping[str, Any]]
  temperature: float = 1.0
  tokenizer: str | None = None

  def __post_init__(self):
    if not self.tasks:
      raise ValueError("tasks: expected at least one, got none")
    if not self.temperature > 0:
      raise ValueError(f"temperature: expected above 0, got {self.temperature}")
    for name in self.tasks:
      if "/" in name or name in (ENCODER, "mean"):
        raise ValueError(f"tasks.{name}: a task cannot have this name")
      if self.part(name).augmentation.model:
        raise ValueError(
          f"tasks.{name}.augmentation.model: only a task that is trained alone"
          " can be augmented by a model; use dropout or swap"
        )

  def part(self, name: str) -> LabelledConfig:
    """The section `config.data` of a part.

    Raises:
      ValueError: it is not of a task that can be a part.
    """
    from bert_jax.tasks import LABELLED  # The table knows this module too.

    where = f"config.data.tasks.{name}"
    if not isinstance(self.tasks[name], Mapping):
      raise ValueError(
        f"tasks.{name}: expected a section, got {self.tasks[name]!r}"
      )
    section = dict(self.tasks[name])
    cls = settings.choice(f"{where}.task", section.pop("task", ""), LABELLED)
    return settings.from_dict(cls, section, where)


@dataclasses.dataclass(frozen=True)
class NamedStream:
  """A stream whose batches bear their task's name.

  Attributes:
    task: the name.
    stream: gives the batches.
  """

  task: str
  stream: BatchStream

  @property
  def batch_size(self) -> int:
    """Rows of a batch over all hosts."""
    return self.stream.batch_size

  @property
  def batches_per_epoch(self) -> int:
    """As the stream's."""
    return self.stream.batches_per_epoch

  def batch(self, index: int, rows: Sequence[int]) -> Batch:
    """Some rows of a batch."""
    return dataclasses.replace(self.stream.batch(index, rows), task=self.task)


def make(
  config: MultiTaskConfig,
  encoder: EncoderConfig,
  tokenizer: Tokenizer | None,
  pretrained: Task | None = None,
) -> tuple[MultiTask, TrainingData]:
  """The tasks fitted to their records, and these as training data.

  Args:
    config: the section `config.data`.
    encoder: the encoder's configuration.
    tokenizer: the vocabulary.
    pretrained: the tasks of the initial model.

  Raises:
    UserError: the records of a part cannot be read, or are not of its task.
  """
  tasks, data = {}, {}
  for name in config.tasks:
    known = pretrained.parts.get(name) if pretrained else None
    part = config.part(name)
    if known is not None and known.name != part.TASK.name:
      known = None
    try:
      made = labelled.make(part, encoder, tokenizer, known)
    except UserError as error:
      # The part knows its keys as those of config.data.
      message = str(error).replace("config.data.", f"config.data.tasks.{name}.")
      raise UserError(message) from error
    tasks[name], data[name] = made
  task = MultiTask(tasks=tasks).bind(encoder, tokenizer)
  return task, _training_data(task, data, config.temperature)


def _training_data(
  task: MultiTask, parts: Mapping[str, TrainingData], temperature: float
) -> TrainingData:
  """See `MixedStream` for the temperature."""

  def training(size: int, seed: int, start: Any) -> MixedStream:
    streams = [
      NamedStream(name, part.training(size, seed, None))
      for name, part in parts.items()
    ]
    return MixedStream(streams, temperature, seed, start)

  def evaluation() -> EvalRecords:
    rows, buckets = [], set()
    for name, part in parts.items():
      own = part.evaluation()
      buckets |= {*own.length_buckets}
      for record, made in zip(own.records, own.examples):
        named = [dataclasses.replace(x, task=name) for x in made]
        rows.append(({**record, "task": name}, named))
    records, examples = zip(*rows)
    return EvalRecords(records, examples, sorted(buckets))

  def fingerprint() -> str:
    lines = (f"{name} {part.fingerprint()}" for name, part in parts.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()

  return TrainingData(
    max_length=float(np.mean([part.max_length for part in parts.values()])),
    predictions=0,
    training=training,
    evaluation=evaluation,
    fingerprint=fingerprint,
    baselines=task.baselines,
    notes=tuple(
      f"{name}: {note}" for name, part in parts.items() for note in part.notes
    ),
  )
