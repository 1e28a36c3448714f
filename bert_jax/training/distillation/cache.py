"""The outputs of a teacher for all training examples, kept on disk.

A folder for each teacher and each list of examples has shards of `_SHARD`
examples: `00000.npy`, the outputs one after the other as float32, and
`00000.json`, their shapes with the checksum of the values, which is written
last. What is missing or damaged is computed again.
"""

import dataclasses
import functools
import hashlib
import json
import math
import pathlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging

from bert_jax import predictor
from bert_jax.batch import Batch, map_arrays
from bert_jax.cluster import processes
from bert_jax.data import grouping
from bert_jax.data.grouping import LengthGroupedStream
from bert_jax.data.stream import BatchStream
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.storage import checksums, paths
from bert_jax.tasks.task import Task
from bert_jax.training.distillation import objective
from bert_jax.training.distillation.teacher import Teacher

_SHARD = 1024
_VERSION = 1

Arrays = Mapping[str, np.ndarray]


def with_outputs(
  stream: BatchStream,
  teacher: Teacher,
  where: str,
  batch_size: int,
  say: Callable[[str], None],
) -> LengthGroupedStream:
  """The same batches with the outputs of a teacher as further targets.

  Args:
    stream: of examples that are the same in each epoch.
    teacher: computes what is not in the folder.
    where: the folder of the caches of any teachers.
    batch_size: rows that go through the teacher at once.
    say: takes lines for the user.

  Raises:
    UserError: the examples differ from epoch to epoch, or the folder is in a
      store or cannot be written to.
  """
  if not isinstance(stream, LengthGroupedStream):
    raise UserError(
      "config.teacher.cache: only labelled records of one task are the same in"
      " each epoch; leave it out, and the teacher computes in each step"
    )
  if paths.is_remote(where):
    raise UserError(
      f"config.teacher.cache: expected a folder on a disk, got {where}"
    )
  folder = pathlib.Path(where).absolute() / _key(teacher, stream.examples)
  examples, axes = stream.examples, _axes(teacher.task)
  rows = _Rows(teacher.task.config, stream.axes, axes)
  shards = range(0, len(examples), _SHARD)

  def missing() -> list[int]:
    folder.mkdir(parents=True, exist_ok=True)
    return [start for start in shards if not _is_whole(folder, start)]

  try:
    todo = processes.on_first(missing)
    say(
      f"the teacher's outputs for {len(examples):,} examples are kept in"
      f" {folder}; {len(todo)} of {len(shards)} parts are computed now"
    )
    for start in todo:
      own = examples[start : start + _SHARD]
      found = predictor.predict(
        rows,
        teacher.outputs,
        own,
        [[example] for example in own],
        batch_size,
        stream.lengths,
      )
      save = functools.partial(_write, folder, start, found)
      processes.on_first(save)
  except OSError as error:
    raise UserError(f"config.teacher.cache: {where}: {error}") from error
  own = stream.axes
  joint = own._replace(
    per_token=own.per_token | axes.per_token, slots=own.slots | axes.slots
  )
  return stream.with_examples(_Taught(examples, folder), joint)


def _key(teacher: Teacher, examples: Sequence[Batch]) -> str:
  """The name of the folder: a hash of all that outputs depend on."""
  digest = hashlib.sha256(f"{_VERSION} {teacher.checksum}".encode())

  def add(name: str, array: np.ndarray) -> None:
    digest.update(f"{name} {array.dtype} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array))

  for example in examples:
    map_arrays(add, example)
  return digest.hexdigest()[:32]


def _axes(task: Task) -> grouping.Axes:
  """The last axes of a teacher's outputs."""
  kinds = {
    objective.outputs_name(name): target.taught_axis
    for name, target in task.targets.items()
  }
  features = (f"{objective.PREFIX}{x}" for x in ("hidden_states", "relations"))
  kinds |= dict.fromkeys(features, "token")
  return grouping.Axes(
    per_token=frozenset(x for x, kind in kinds.items() if kind == "token"),
    slots=frozenset(x for x, kind in kinds.items() if kind == "slot"),
  )


@dataclasses.dataclass(frozen=True)
class _Rows:
  """What the driver asks of a task; the outputs of rows, without padding.

  Attributes:
    config: of the teacher.
    own_axes: of the examples.
    axes: of the outputs.
  """

  config: EncoderConfig
  own_axes: grouping.Axes
  axes: grouping.Axes

  def axes_of(self, example: Batch) -> grouping.Axes:
    del example
    return self.own_axes

  def predict(
    self, outputs: Arrays, batch: Batch, examples: Sequence[Batch]
  ) -> list[Arrays]:
    del batch
    return [
      {name: self._cut(name, x[i], example) for name, x in outputs.items()}
      for i, example in enumerate(examples)
    ]

  def _cut(self, name: str, array: np.ndarray, example: Batch) -> np.ndarray:
    *rows, length = example.token_ids.shape
    last = None
    if name in self.axes.per_token:
      last = length
    elif name in self.axes.slots:
      target = name.removeprefix(objective.outputs_name(""))
      last = example.targets[f"{target}/weights"].shape[-1]
    array = array[tuple(map(slice, rows))]
    return array[..., :last]

  def merge(self, example: Batch, found: Sequence[Arrays]) -> Arrays:
    del example
    return found[0]


def _files(folder: pathlib.Path, start: int) -> tuple[pathlib.Path, ...]:
  """The values and the description of a shard."""
  name = f"{start // _SHARD:05d}"
  return folder / f"{name}.npy", folder / f"{name}.json"


def _write(folder: pathlib.Path, start: int, found: Sequence[Arrays]) -> None:
  values, description = _files(folder, start)
  partial = folder / f"{uuid.uuid4().hex}.partial"
  flat = [x.ravel() for arrays in found for x in arrays.values()]
  try:
    with partial.open("wb") as file:
      np.save(file, np.concatenate(flat).astype(np.float32))
    with partial.open("rb") as file:
      size, digest = checksums.size_and_sha256(file)
    partial.replace(values)
    shapes = [{k: x.shape for k, x in arrays.items()} for arrays in found]
    entry = {"bytes": size, "sha256": digest, "shapes": shapes}
    partial.write_text(json.dumps(entry))
    partial.replace(description)
  finally:
    partial.unlink(missing_ok=True)


def _is_whole(folder: pathlib.Path, start: int) -> bool:
  """Whether a shard is there, as it was written."""
  values, description = _files(folder, start)
  if not description.exists():
    return False
  try:
    entry = json.loads(description.read_text())
    with values.open("rb") as file:
      found = checksums.size_and_sha256(file)
    if found == (entry["bytes"], entry["sha256"]):
      return True
  except (OSError, ValueError, LookupError, TypeError):
    pass
  logging.error("%s is damaged; it is computed again", values)
  return False


class _Taught(Sequence[Batch]):
  """Examples with a teacher's outputs, which are read when they are needed.

  Thread-safe; pickled without the outputs.
  """

  def __init__(self, examples: Sequence[Batch], folder: pathlib.Path):
    """Maps the shards of a folder that is complete."""
    self._examples, self._folder = examples, folder
    self._shards = [
      _Shard(*_files(folder, start))
      for start in range(0, len(examples), _SHARD)
    ]

  def __reduce__(self) -> tuple[Any, ...]:
    return type(self), (self._examples, self._folder)

  def __len__(self) -> int:
    return len(self._examples)

  def __getitem__(self, index: int) -> Batch:
    example = self._examples[index]
    shard, place = divmod(index, _SHARD)
    targets = {**example.targets, **self._shards[shard].arrays(place)}
    return dataclasses.replace(example, targets=targets)


class _Shard:
  """The outputs for some examples, mapped from disk."""

  def __init__(self, values: pathlib.Path, description: pathlib.Path):
    self._values = np.load(values, mmap_mode="r")
    self._shapes = json.loads(description.read_text())["shapes"]
    sizes = [sum(map(math.prod, shapes.values())) for shapes in self._shapes]
    self._starts = np.concatenate([[0], np.cumsum(sizes)])

  def arrays(self, place: int) -> Arrays:
    start, found = int(self._starts[place]), {}
    for name, shape in self._shapes[place].items():
      end = start + math.prod(shape)
      found[name] = self._values[start:end].reshape(shape)
      start = end
    return found
