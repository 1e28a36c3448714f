"""A model whose weights are yet to be read, wherever it comes from."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, Self

import jax
import numpy as np

from bert_jax import settings, trees
from bert_jax.interop.name_table import LoadedParams
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import TASKS
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Parameters

_ENCODER = "encoder"

Place = Callable[[str, np.ndarray], Any]
"""Puts the parameter of a path where it is to stay."""


@dataclasses.dataclass(frozen=True, eq=False)
class Pretrained:
  """A model whose weights are yet to be read.

  Attributes:
    where: its folder or address, for messages.
    config: the encoder's configuration.
    task: what its heads are for, with labels and thresholds; not bound.
    tokenizer: None where no vocabulary came with it.
    read: from a task and shape structs of its parameters, to those that are
      there.
  """

  where: str
  config: EncoderConfig
  task: Task
  tokenizer: Tokenizer | None
  read: Callable[[Task, Parameters, Place | None], LoadedParams]

  def __post_init__(self):
    check_vocabulary(self.tokenizer, self.config, self.where)

  def make_task(self, name: str | None = None) -> Task:
    """The task of its heads, or another one on the same encoder, bound.

    Raises:
      UserError: there is no such task.
    """
    task = self.task
    if name and name != task.name:
      task = settings.choice("task", name, TASKS).for_published()
    return task.bind(self.config, self.tokenizer)

  def params(
    self,
    task: Task,
    place: Place | None = None,
    seed: int = 0,
    reinitialize: Callable[[Parameters], Parameters] | None = None,
  ) -> LoadedParams:
    """Reads the weights of a task's module.

    Heads that the weights lack start from initial values; so do the output
    layers of another task or of other labels.

    Args:
      task: bound, on the same encoder.
      place: by default, on the first local device.
      seed: of the initial values.
      reinitialize: from shape structs of the parameters to a tree of bools:
        what starts from initial values besides.

    Returns:
      All parameters of the task's module, and the names of those that are
      newly initialized.

    Raises:
      UserError: the weights are damaged, or not those of this model.
    """
    shapes = _shapes(task)
    read = self._read(task, shapes, place)
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
    """One of the tasks that share the encoder, as a model of its own."""

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

  def _read(
    self, task: Task, shapes: Parameters, place: Place | None
  ) -> LoadedParams:
    """What there is of a task's parameters that means the same to it."""
    if not task.parts:
      wanted = {
        name: x for name, x in shapes.items() if task.reuses(name, self.task)
      }
      return self.read(task, wanted, place) if wanted else LoadedParams({}, ())
    if self.task.parts:
      same = {
        name: shapes[name]
        for name, part in task.parts.items()
        if name in self.task.parts and self._reuses_all(name, part)
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

  def _reuses_all(self, name: str, part: Task) -> bool:
    known = self.task.parts[name]
    return all(part.reuses(head, known) for head in part.head_names.values())


def _module_names(paths: Collection[str]) -> tuple[str, ...]:
  """What to call parameters by: their heads, or their parts of the encoder."""
  steps = (path.split("/") for path in paths)
  return tuple(sorted({"/".join(s[: 1 + (s[0] == "encoder")]) for s in steps}))


def _shapes(task: Task) -> Parameters:
  """Shape structs of a model's parameters, from tracing its first two layers.

  The layers after these have the shapes of the second; tracing all of them
  takes most of the time of loading a large model.
  """
  config = task.config
  few = dataclasses.replace(
    config, num_layers=min(2, config.num_layers), layer_dropouts=()
  )
  module = task.module.clone(config=few)
  # Inside eval_shape not even the key is compiled for.
  shapes = jax.eval_shape(lambda: task.init_params(jax.random.key(0), module))
  if config.shared_layers:
    return shapes
  more = {
    f"layer_{n}": shapes["encoder"]["layer_1"]
    for n in range(2, config.num_layers)
  }
  return {**shapes, "encoder": {**shapes["encoder"], **more}}


def with_pooler(
  wanted: Parameters, config: EncoderConfig, is_there: Callable[[str], bool]
) -> Parameters:
  """Adds the pooler that an encoder was published with.

  A task without heads needs none, but a saved copy shall have it. `is_there`
  tells whether there is a parameter of this path.
  """
  if {*wanted} != {_ENCODER} or not is_there("pooler/dense/kernel"):
    return wanted
  return {**wanted, **heads.pooler_shapes(config)}


def check_vocabulary(
  tokenizer: Tokenizer | None, config: EncoderConfig, where: str
) -> None:
  """Refuses a vocabulary with ids beyond the word embedding.

  Raises:
    UserError: it has more entries than the embedding has rows.
  """
  if tokenizer is not None and len(tokenizer) > config.vocab_size:
    raise settings.UserError(
      f"{where}: the vocabulary has {len(tokenizer)} entries, but the word"
      f" embedding only {config.vocab_size} rows; they do not belong together"
    )
