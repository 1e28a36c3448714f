"""An opened model whose weights have not been read yet, from any source."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

import jax
import numpy as np

from bert_jax import settings, trees
from bert_jax.interop.name_table import LoadedParams
from bert_jax.models import heads, vocabulary
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import TASKS
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Parameters

_ENCODER = "encoder"

Place = Callable[[str, np.ndarray], Any]
"""From the path and array of a parameter to an array on devices."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
  """An opened model whose weights have not been read yet.

  Attributes:
    where: its folder or address, for messages.
    config: the encoder's configuration.
    task: the task of its heads, with labels and thresholds; not bound.
    tokenizer: None without a vocabulary.
    read: from a task and shape structs of its parameters to the parameters
      that the model has.
    find: from the name of another task to that task with the labels of a head
      in the weights; None if no head fits it.
  """

  where: str
  config: EncoderConfig
  task: Task
  tokenizer: Tokenizer | None
  read: Callable[[Task, Parameters, Place | None], LoadedParams]
  find: Callable[[str], Task | None] = lambda name: None

  def __post_init__(self):
    check_vocabulary(self.tokenizer, self.config, self.where)

  def make_task(self, name: str | None = None) -> Task:
    """The task of its heads, or another one on the same encoder, bound."""
    task = self.task
    if name and name != task.name:
      task = settings.choice("task", name, TASKS).for_published()
    return task.bind(self.config, self.tokenizer)

  def for_task(self, name: str | None) -> Self:
    """The model with the head of a named task, if the weights have one."""
    if name is None or name == self.task.name:
      return self
    return dataclasses.replace(self, task=self.find(name) or self.task)

  def params(
    self,
    task: Task,
    place: Place | None = None,
    seed: int = 0,
    reinitialize: Callable[[Parameters], Parameters] | None = None,
  ) -> LoadedParams:
    """Reads the weights of a task's module.

    Heads that the model lacks are newly initialized, as are the output layers
    of another task or of other labels.

    Args:
      task: bound, on the same encoder.
      place: by default, on the first local device.
      seed: of the initial values.
      reinitialize: from shape structs of the parameters to a tree of bools:
        whether a parameter is newly initialized too.

    Returns:
      All parameters of the task's module, and the names of those that are
      newly initialized.

    Raises:
      UserError: the weights are damaged, or not those of this model.
    """
    shapes = shapes_of(task)
    read = self._read_rows(task, shapes, place)
    flat = trees.flatten(read.params)
    if reinitialize is not None:
      chosen = trees.flatten(reinitialize(shapes))
      flat = {path: x for path, x in flat.items() if not chosen.get(path)}
    missing = set(trees.flatten(shapes)) - set(flat)
    if not missing:
      return read

    def initial(key: Any) -> Mapping[str, Any]:
      params = trees.flatten(task.init_params(key))
      return {path: params[path] for path in missing}

    made = jax.jit(initial)(jax.random.key(seed))
    if place is not None:
      made = {path: place(path, np.asarray(x)) for path, x in made.items()}
    return LoadedParams(trees.unflatten(flat | made), _module_names(missing))

  def part(self, name: str) -> Self:
    """A separate model of one of the tasks that share the encoder."""

    def read(
      task: Task, wanted: Parameters, place: Place | None
    ) -> LoadedParams:
      own = {key: tree for key, tree in wanted.items() if key != _ENCODER}
      there = {_ENCODER: wanted[_ENCODER], name: own}
      merged = self.read(self.task, there, place)
      params = {**merged.params, **merged.params.get(name, {})}
      params.pop(name, None)
      return LoadedParams(params, tuple(sorted(set(wanted) - set(params))))

    return dataclasses.replace(self, task=self.task.parts[name], read=read)

  def _read_rows(
    self, task: Task, shapes: Parameters, place: Place | None
  ) -> LoadedParams:
    """As `_read`, where the task may pad the vocabulary to other rows."""
    rows, own = task.config.vocab_rows, self.config.vocab_rows
    if rows == own:
      return self._read(task, shapes, place)
    put = place or (lambda _, array: jax.device_put(array))
    size = self.config.vocab_size

    def place_rows(path: str, array: np.ndarray) -> Any:
      tokens = vocabulary.with_rows(path, array, size)
      return put(path, vocabulary.with_rows(path, tokens, rows))

    stored = trees.map_with_path(
      lambda path, x: vocabulary.with_rows(path, x, own), shapes
    )
    return self._read(task, stored, place_rows)

  def _read(
    self, task: Task, shapes: Parameters, place: Place | None
  ) -> LoadedParams:
    """The parameters that a task can use unchanged."""
    if not task.parts:
      wanted = {
        name: x for name, x in shapes.items() if task.reuses(name, self.task)
      }
      return self.read(task, wanted, place) if wanted else LoadedParams({}, ())
    if self.task.parts:
      same = {
        name: shapes[name]
        for name, part in task.parts.items()
        if (known := self.task.parts.get(name))
        and all(part.reuses(head, known) for head in part.head_names.values())
      }
      return self.read(self.task, {_ENCODER: shapes[_ENCODER], **same}, place)
    params: dict[str, Any] = {}
    for name, part in task.parts.items():
      # The encoder is read once, with the first.
      own = dict(shapes[name])
      if not params:
        own[_ENCODER] = shapes[_ENCODER]
      found = dict(self._read(part, own, place).params)
      if _ENCODER in found:
        params[_ENCODER] = found.pop(_ENCODER)
      params[name] = {key: found[key] for key in own if key in found}
    return LoadedParams(params, ())


def _module_names(paths: Collection[str]) -> tuple[str, ...]:
  """The heads of parameters, or their parts of the encoder."""
  steps = (path.split("/") for path in paths)
  return tuple(sorted({"/".join(s[: 1 + (s[0] == "encoder")]) for s in steps}))


def shapes_of(task: Task) -> Parameters:
  """Shape structs of a model's parameters, by tracing two layers if it can.

  The others have the shapes of the last. Tracing all of them takes most of the
  time of loading a large model.
  """
  config = task.config
  differ = config.layer_heads or config.layer_intermediate_sizes
  if task.wrap or differ or task.exits.every:
    return jax.eval_shape(lambda: task.init_params(jax.random.key(0)))
  few = dataclasses.replace(
    config,
    num_layers=min(2, config.num_layers),
    layer_groups=1,
    group_layers=1,
    layer_dropouts=(),
  )
  module = task.module.clone(config=few)
  # Inside of eval_shape, not even the key is compiled.
  shapes = jax.eval_shape(lambda: task.init_params(jax.random.key(0), module))
  count = few.distinct_layers
  more = {
    f"layer_{n}": shapes["encoder"][f"layer_{count - 1}"]
    for n in range(count, config.distinct_layers)
  }
  return {**shapes, "encoder": {**shapes["encoder"], **more}}


def with_pooler(
  wanted: Parameters, config: EncoderConfig, is_there: Callable[[str], bool]
) -> Parameters:
  """Adds the pooler that an encoder was published with, for saved copies.

  `is_there` tells whether the checkpoint has the parameter of a path.
  """
  # Of embeddings, which do not use it.
  is_base = {*wanted} <= {_ENCODER, "vectors"}
  if not is_base or not is_there("pooler/dense/kernel"):
    return wanted
  return {**wanted, **heads.pooler_shapes(config)}


def check_vocabulary(
  tokenizer: Tokenizer | None, config: EncoderConfig, where: str
) -> None:
  """Raises a `UserError` for a vocabulary larger than the word embedding."""
  if tokenizer is not None and len(tokenizer) > config.vocab_size:
    raise UserError(
      f"{where}: the vocabulary has {len(tokenizer)} entries, but the word"
      f" embedding only {config.vocab_size} rows; they do not belong together"
    )
