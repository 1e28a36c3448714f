"""What lets several tasks share an encoder: their model and their batches."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from bert_jax.data.mixing import MixedStream
from bert_jax.data.sources.labelled import Record
from bert_jax.data.stream import BatchStream
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.task import HeldOut, Model, Task, TrainingData
from bert_jax.types import Batch, Parameters

ENCODER = "encoder"


@dataclasses.dataclass(frozen=True)
class MixedModel:
  """The models of several tasks, which share their encoder's parameters.

  Attributes:
    models: by the tasks' names.
    blanks: an example for each.
  """

  models: Mapping[str, Model]
  blanks: Mapping[str, Batch]

  def init(self, key: Any, batch: Batch) -> Mapping[str, Parameters]:
    """`{"params": ...}` with initial values, whichever task the batch is of."""
    del batch
    params: dict[str, Any] = {}
    for number, (name, model) in enumerate(self.models.items()):
      blank = jax.tree.map(lambda x: x[None], self.blanks[name])
      made = dict(model.init(jax.random.fold_in(key, number), blank)["params"])
      encoder = made.pop(ENCODER)
      params.setdefault(ENCODER, encoder)
      params[name] = made
    return {"params": params}

  def clone(self, *, config: EncoderConfig) -> "MixedModel":
    """The same models on another encoder."""
    return dataclasses.replace(
      self,
      models={
        name: model.clone(config=config) for name, model in self.models.items()
      },
    )

  def apply(
    self, variables: Mapping[str, Parameters], batch: Batch, **kwargs: Any
  ) -> Any:
    """The outputs of the task that the batch is of."""
    name, own = unmark(batch)
    params = variables["params"]
    own_params = {ENCODER: params[ENCODER], **params[name]}
    return self.models[name].apply({"params": own_params}, own, **kwargs)


def mark(name: str, batch: Batch, shape: tuple[int, ...] = ()) -> Batch:
  """Puts a task's name before the targets of an example.

  Args:
    name: the task's.
    batch: an example, or with `shape` a batch.
    shape: of the target that is only there for its name.
  """
  targets = {f"{name}/{key}": value for key, value in batch.targets.items()}
  targets[f"{name}/task"] = np.zeros(shape, np.float32)
  return dataclasses.replace(batch, targets=targets)


def unmark(batch: Batch) -> tuple[str, Batch]:
  """The task's name, and the batch as the task knows it."""
  name = next(iter(batch.targets)).split("/")[0]
  targets = {
    key.removeprefix(f"{name}/"): value
    for key, value in batch.targets.items()
    if key != f"{name}/task"
  }
  return name, dataclasses.replace(batch, targets=targets)


@dataclasses.dataclass(frozen=True)
class MarkedStream:
  """A stream whose batches bear their task's name.

  Attributes:
    name: the task's.
    stream: gives the batches.
  """

  name: str
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
    return mark(self.name, self.stream.batch(index, rows), (len(rows),))


def of_task(
  name: str, answers: Sequence[Any], records: Sequence[Record]
) -> tuple[list[Any], list[Record]]:
  """The answers and the records of one task among those of all."""
  own = [i for i, record in enumerate(records) if record["task"] == name]
  return [answers[i] for i in own], [records[i] for i in own]


def training_data(
  parts: Mapping[str, Task], temperature: float
) -> TrainingData:
  """What tasks learn from together; see `MixedStream` for the temperature."""
  found = {name: part.data for name, part in parts.items()}

  def training(size: int, seed: int, start: Any) -> MixedStream:
    streams = [
      MarkedStream(name, own.training(size, seed, None))
      for name, own in found.items()
    ]
    return MixedStream(streams, temperature, seed, start)

  def evaluation() -> HeldOut:
    rows, lengths = [], set()
    for name, own in found.items():
      held_out = own.evaluation()
      lengths |= {*held_out.lengths}
      count = len(held_out.records)
      for i, (record, made) in enumerate(
        zip(held_out.records, held_out.examples)
      ):
        marked = [mark(name, example) for example in made]
        rows.append(((i + 0.5) / count, {**record, "task": name}, marked))
    # The first ones, if no more are asked for, are of all tasks in proportion.
    rows.sort(key=lambda row: row[0])
    _, records, examples = zip(*rows)
    return HeldOut(records, examples, sorted(lengths))

  def baselines(records: Sequence[Record]) -> dict[str, float]:
    scores = {}
    for name, own in found.items():
      _, asked = of_task(name, records, records)
      if asked:
        values = own.baselines(asked)
        scores |= {f"{name}/{key}": value for key, value in values.items()}
    return scores

  def fingerprint() -> str:
    parts = (f"{name} {own.fingerprint()}" for name, own in found.items())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()

  return TrainingData(
    length=float(np.mean([own.length for own in found.values()])),
    predictions=0,
    training=training,
    evaluation=evaluation,
    fingerprint=fingerprint,
    baselines=baselines,
    notes=tuple(
      f"{name}: {note}" for name, own in found.items() for note in own.notes
    ),
  )
