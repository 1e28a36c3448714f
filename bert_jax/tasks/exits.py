"""What a task does with early exits: their loss, and which rows leave."""

import dataclasses
import functools
import operator
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxtyping import Bool, Int

from bert_jax.batch import Array, Batch, Mean, Parameters
from bert_jax.models.exits import Exits, head_name
from bert_jax.settings import UserError
from bert_jax.tasks.targets.target import Target

if TYPE_CHECKING:
  from bert_jax.tasks.task import Task


def check(exits: Exits, task: "Task") -> None:
  """Refuses early exits that a task cannot have.

  Raises:
    UserError: its answers cannot be compared from exit to exit, or the encoder
      has too few layers.
  """
  if not exits.every:
    return
  if task.parts:
    raise UserError("config.exits: a model of several tasks has none")
  for name, target in task.targets.items():
    kind = f"{type(target).__name__} ({name})"
    if not target.EXITS:
      raise UserError(
        f"config.exits: {kind} has no early exits; classes, labels of words and"
        " numbers do"
      )
    if exits.entropy and "entropy" not in target.EXITS:
      raise UserError(
        f"config.exits.entropy: {kind} has no entropy; use the patience"
      )
  if not exits.layers(task.config):
    raise UserError(
      f"config.exits.every: expected less than the {task.config.num_layers}"
      f" layers, got {exits.every}"
    )


def names(task: "Task") -> dict[str, tuple[int, str]]:
  """The layer and the target of each early exit, by the head's name."""
  if not task.exits.every:
    return {}
  return {
    head_name(layer, head): (layer, name)
    for layer in task.exits.layers(task.config)
    for name, head in task.head_names.items()
  }


def targets(task: "Task") -> dict[str, Target]:
  """The targets by the names of all their heads."""
  found = {task.head_names[name]: x for name, x in task.targets.items()}
  early = task.exit_names.items()
  return found | {head: task.targets[name] for head, (_, name) in early}


def state(exits: Exits) -> dict[str, Any]:
  """What a checkpoint keeps of them, for JSON."""
  return {"exits": dataclasses.asdict(exits)} if exits.every else {}


def only_last(
  task: "Task", params: Parameters, where: str
) -> tuple["Task", Parameters]:
  """The full model, for formats without early exits; warns if there were some.

  Args:
    task: the task.
    params: of its module.
    where: the name of the format.
  """
  if not task.exit_names:
    return task, params
  warnings.warn(
    f"{where} has no early exits: only the last one is kept, the full model",
    stacklevel=2,
  )
  kept = {name: x for name, x in params.items() if name not in task.exit_names}
  return dataclasses.replace(task, exits=Exits()), kept


def split(
  task: "Task", outputs: Mapping[str, Any]
) -> dict[int, Mapping[str, Any]]:
  """The outputs of each exit, by its number of layers; the last one at the end.

  Those of early exits have the names of the last one. They may be missing.
  """
  found: dict[int, dict[str, Any]] = {}
  for name, (layer, target) in task.exit_names.items():
    if name in outputs:
      own = found.setdefault(layer + 1, {})
      own[task.head_names[target]] = outputs[name]
  # Without exits, the number of layers is not asked for.
  last = task.config.num_layers if found else 0
  return {**found, last: outputs}


def mean_loss(each: Mapping[int, Mapping[str, Mean]]) -> dict[str, Mean]:
  """The losses of exits as one, weighted by their numbers of layers.

  Args:
    each: the losses of each exit by name, by its number of layers.
  """
  *_, last = each.values()
  if len(each) == 1:
    return dict(last)
  total = sum(each)
  return {
    name: Mean(
      sum(n * own[name].total for n, own in each.items()) / total, mean.weight
    )
    for name, mean in last.items()
  }


def leaves(
  task: "Task",
  outputs: Mapping[str, Any],
  before: Mapping[str, Any],
  batch: Batch,
  same: Int[Array, " rows"],
) -> tuple[Bool[Array, " rows"], Int[Array, " rows"]]:
  """Which rows leave by an exit; of NumPy's arrays or JAX's.

  Args:
    task: with settings that let rows leave.
    outputs: of the exit, by the names of the task's heads.
    before: of the exit before; empty at the first.
    batch: the input.
    same: how many exits in a row had the same answer as the one before.

  Returns:
    Whether each row leaves, and `same` with this exit.
  """
  exits = task.exits
  heads = [(x, task.head_names[name]) for name, x in task.targets.items()]
  if exits.entropy:
    low = [x.entropies(outputs[h], batch) < exits.entropy for x, h in heads]
    return functools.reduce(operator.and_, low), same
  if not before:
    return same < 0, same
  agree = [
    x.same_answers(outputs[h], before[h], batch, exits.tolerance)
    for x, h in heads
  ]
  same = (same + 1) * functools.reduce(operator.and_, agree)
  return same >= exits.patience, same
