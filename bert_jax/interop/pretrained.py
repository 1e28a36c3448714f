"""A model that somebody published: what it is, and how to read its weights."""

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import numpy as np

from bert_jax import settings, trees
from bert_jax.interop.names import Merged
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import TASKS
from bert_jax.tasks.task import Model, Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Parameters

# The parts of models whose outputs have a place for each label.
_OF_LABELS = ("classifier", "intent", "slots")

_ENCODER = "encoder"

Place = Callable[[str, np.ndarray], Any]
"""Puts the parameter of a path where it is to stay."""


@dataclasses.dataclass(frozen=True)
class Pretrained:
  """A model whose weights are yet to be read.

  Attributes:
    where: its folder or address, for messages.
    config: the encoder's.
    task: the task that its head is for, a name in `bert_jax.tasks.TASKS`.
    head: what else makes the head, the task's `Head`; None takes its
      defaults.
    tokenizer: None where no vocabulary came with it.
    read: from a task's name and shape structs of its parameters, to those
      that are there.
  """

  where: str
  config: EncoderConfig
  task: str
  head: Any
  tokenizer: Tokenizer | None
  read: Callable[[str, Parameters, Place | None], Merged]

  def __post_init__(self):
    check_vocabulary(self.tokenizer, self.config, self.where)

  def make_task(self, name: str | None = None) -> Task:
    """The task of its head, or another one on the same encoder.

    Raises:
      UserError: there is no such task.
    """
    module = settings.choice("task", name or self.task, TASKS)
    if self.head is None or (name and name != self.task):
      return module.make(self.config, self.tokenizer)
    return module.make(self.config, self.tokenizer, self.head)

  def params(
    self,
    task: Task,
    place: Place | None = None,
    seed: int = 0,
    anew: Callable[[Parameters], Parameters] | None = None,
  ) -> Merged:
    """Reads the weights of a task's model; heads that it lacks start fresh.

    So do the logits of a head for another task or other labels.

    Args:
      task: from `make_task`, or any on the same encoder.
      place: by default, on the first local device.
      seed: of the initial values of what starts fresh.
      anew: from shape structs of the parameters to a tree of bools: what is
        to start fresh besides.

    Returns:
      All parameters of the task's model, and the names of what is fresh.

    Raises:
      UserError: the weights are damaged, or not those of this model.
    """
    shapes = _shapes(task)
    read = self._read(task, shapes, place)
    flat = trees.flatten(read.params)
    if anew is not None:
      chosen = trees.flatten(anew(shapes))
      flat = {path: x for path, x in flat.items() if not chosen.get(path)}
    missing = set(trees.flatten(shapes)) - set(flat)
    if not missing:
      return read

    def fresh(key: Any) -> Mapping[str, Any]:
      params = trees.flatten(_initial(task.model, task, key))
      return {path: params[path] for path in missing}

    made = jax.jit(fresh)(jax.random.key(seed))
    if place is not None:
      made = {path: place(path, np.asarray(x)) for path, x in made.items()}
    return Merged(trees.unflatten(flat | made), _parts(missing))

  @property
  def parts(self) -> Collection[str]:
    """The names of the tasks that share the encoder, if there are several."""
    return self.head.tasks if self.task == "mixed" else ()

  def part(self, name: str) -> "Pretrained":
    """One of `parts` by itself."""
    of = self.head.tasks[name]
    head = of["head"]
    if head is not None:
      head = settings.from_dict(TASKS[of["task"]].Head, head, self.where)

    def read(task: str, wanted: Parameters, place: Place | None) -> Merged:
      own = {key: tree for key, tree in wanted.items() if key != _ENCODER}
      there = {_ENCODER: wanted[_ENCODER], name: own}
      merged = self.read(self.task, there, place)
      params = {**merged.params, **merged.params.get(name, {})}
      params.pop(name, None)
      return Merged(params, tuple(sorted(set(wanted) - set(params))))

    return dataclasses.replace(self, task=of["task"], head=head, read=read)

  def _read(
    self, task: Task, shapes: Parameters, place: Place | None
  ) -> Merged:
    """What there is of a task's parameters, whose logits are for it."""
    if not task.parts:
      suits = self._suits(task)
      wanted = {k: x for k, x in shapes.items() if suits or k not in _OF_LABELS}
      if not wanted:
        return Merged({}, ())
      return self.read(task.name, wanted, place)
    if self.task == task.name:
      same = {
        name: shapes[name]
        for name, part in task.parts.items()
        if name in self.parts and self.part(name)._suits(part)
      }
      wanted = {_ENCODER: shapes[_ENCODER], **same}
      return self.read(task.name, wanted, place)
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
    return Merged(params, ())

  def _suits(self, task: Task) -> bool:
    """Whether the logits mean to this task what they meant to theirs."""
    if task.name != self.task:
      return False
    own = self.head or TASKS[self.task].make(self.config, None).head
    return all(
      getattr(own, name, None) == getattr(task.head, name, None)
      for name in ("labels", "intents")
    )


def _parts(paths: Collection[str]) -> tuple[str, ...]:
  """What to call parameters by: their heads, or their parts of the encoder."""
  steps = (path.split("/") for path in paths)
  return tuple(sorted({"/".join(s[: 1 + (s[0] == "encoder")]) for s in steps}))


def _initial(model: Model, task: Task, key: Any) -> Parameters:
  batch = jax.tree.map(lambda x: x[None], task.blank)
  return model.init(key, batch)["params"]


def _shapes(task: Task) -> Parameters:
  """Shape structs of a model's parameters, from tracing its first two layers.

  The layers after these have the shapes of the second; tracing all of them
  takes most of the time of loading a large model.
  """
  config = task.config
  few = dataclasses.replace(
    config, num_layers=min(2, config.num_layers), layer_dropouts=()
  )
  model = task.model.clone(config=few)
  # Inside eval_shape not even the key is compiled for.
  shapes = jax.eval_shape(lambda: _initial(model, task, jax.random.key(0)))
  if config.shared_layers:
    return shapes
  more = {
    f"layer_{n}": shapes["encoder"]["layer_1"]
    for n in range(2, config.num_layers)
  }
  return {**shapes, "encoder": {**shapes["encoder"], **more}}


def with_pooler(
  wanted: Parameters,
  task: str,
  config: EncoderConfig,
  is_there: Callable[[str], bool],
) -> Parameters:
  """Adds the pooler that an encoder was published with.

  The task `embedding` needs none, but what is saved again shall have it.
  `is_there` tells whether there is a parameter of this path.
  """
  if task != "embedding" or not is_there("pooler/dense/kernel"):
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
