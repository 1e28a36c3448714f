"""One model made of several: soups and ensembles."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax import trees
from bert_jax.loading import load_model
from bert_jax.model import Model
from bert_jax.models.config import RUNTIME_FIELDS
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.tasks import ensembles
from bert_jax.tasks.ensembles import Ensemble
from bert_jax.tasks.targets.target import Target
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import fingerprint
from bert_jax.training import workdir
from bert_jax.types import Parameters

Where = paths.Path

# Fields of encoders' configurations that predictions do not depend on, or
# that say only how a model is run.
_FREE = (
  *RUNTIME_FIELDS,
  "attention_dropout",
  "hidden_dropout",
  "initializer_range",
)


def soup(
  models: Where | Sequence[Where | Model], task: str | None = None
) -> Model:
  """One model with the mean of the parameters of several.

  It is as fast as one of them. The uniform soup of Wortsman et al. (2022,
  arXiv:2203.05482): for models that were fine-tuned from the same weights;
  means of others are worth nothing.

  Args:
    models: models, or what `bert_jax.load` takes; or the folder of one run,
      for all of its checkpoints.
    task: as for `bert_jax.load`.

  Returns:
    A model; tuned thresholds are averaged too.

  Raises:
    UserError: there is one model only, one cannot be loaded, or they differ
      in task, labels, vocabulary or encoder.
  """
  # One after another, so that not all parameters are in memory at once.
  members = _members(models, task)
  _, first = next(members)
  total, tasks = jax.tree.map(_to_float32, first.params), [first.task]
  for name, member in members:
    _check_task(name, member.task, first.task)
    own, others = map(dataclasses.asdict, (member.config, first.config))
    _check_fields(f"{name}: model", own, others, _FREE)
    _check_parameters(name, member.params, first.params)
    total = jax.tree.map(lambda x, y: x + _to_float32(y), total, member.params)
    tasks.append(member.task)
  params = jax.tree.map(
    lambda x, like: (x / len(tasks)).astype(like.dtype), total, first.params
  )
  return dataclasses.replace(first, task=_mean_task(tasks), params=params)


def ensemble(
  models: Where | Sequence[Where | Model], task: str | None = None
) -> Model:
  """A model that runs several models and averages their outputs.

  It takes as long as all of them together. See `tasks.ensembles.Ensemble`
  for what is averaged. Arguments are those of `soup`; encoders may differ.

  Raises:
    UserError: as `soup`, or the task's outputs cannot be averaged.
  """
  members = list(_members(models, task))
  # All inputs are prepared for the model with the fewest positions.
  _, first = min(members, key=lambda m: m[1].config.max_positions)
  for name, member in members:
    _check_task(name, member.task, first.task)
    _check_average(member.task)
  task = dataclasses.replace(
    _mean_task([member.task for _, member in members]),
    config=first.config,
    tokenizer=first.tokenizer,
  )
  modules = tuple(member.module for _, member in members)
  joint = dataclasses.replace(task, wrap=lambda _: Ensemble(modules, task))
  params = {
    ensembles.member_name(i): member.params
    for i, (_, member) in enumerate(members)
  }
  return dataclasses.replace(first, task=joint, params=params)


COMBINATIONS: Mapping[str, Callable[..., Model]] = {
  "soup": soup,
  "ensemble": ensemble,
}
"""The ways to make one model of several, by their names."""


def checkpoints(folder: Where, task: str | None = None) -> Iterator[Model]:
  """The models in a run's checkpoints, the oldest first.

  Raises:
    UserError: there is no such run, or it is damaged.
  """
  # They import Orbax, which is slow.
  from bert_jax.checkpointing import manifest, parameters
  from bert_jax.checkpointing.checkpoints import absolute

  kept = absolute(paths.as_path(folder) / workdir.CHECKPOINTS)
  model = load_model(folder, task)
  # Without shardings: parameters go where those of the first model went.
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), model.params
  )
  for step in manifest.finished_steps(kept):
    if manifest.verify(kept / str(step)) is None:
      params = parameters.restore_step(kept / str(step), shapes)
      yield dataclasses.replace(model, params=params)


def _members(
  models: Where | Sequence[Where | Model], task: str | None
) -> Iterator[tuple[str, Model]]:
  """At least two models, with what to call them by."""
  if isinstance(models, str | os.PathLike):
    if not workdir.is_run(models):
      raise UserError(
        f"{models}: expected several models, or the folder of a run that has"
        " kept several checkpoints"
      )
    found: Iterable[Any] = checkpoints(models, task)
    one = f"{models}: the run has kept"
  else:
    found, one = models, "expected several models, got"
  count = 0
  for count, model in enumerate(found, 1):
    if isinstance(model, Model):
      yield f"model {count}", model
    else:
      yield str(model), load_model(model, task)
  if count < 2:
    raise UserError(f"{one} {count or 'none'}; there is nothing to combine")


def _to_float32(x: Any) -> jax.Array:
  return jnp.asarray(x, jnp.float32)


def _check_task(name: str, task: Task, first: Task) -> None:
  """Refuses a model whose outputs mean something else."""
  if task.name != first.name or task.parts.keys() != first.parts.keys():
    raise UserError(
      f"{name}: its task is {task.name}, that of the others {first.name}"
    )
  for part, own in task.parts.items():
    _check_task(f"{name}: {part}", own, first.parts[part])
  for target, own in task.targets.items():
    other = first.targets[target]
    if not own.same_outputs(other):
      values = ([getattr(x, n) for n in own.OUTPUTS] for x in (own, other))
      mine, theirs = values
      raise UserError(
        f"{name}: {target} has {', '.join(own.OUTPUTS)} {mine!r:.200}, but the"
        f" others have {theirs!r:.200}"
      )
  _check_fields(f"{name}: inputs", task.inputs.state(), first.inputs.state())
  if fingerprint(task.tokenizer) != fingerprint(first.tokenizer):
    raise UserError(f"{name}: its vocabulary is not that of the others")


def _check_average(task: Task) -> None:
  for part in task.parts.values() if task.parts else [task]:
    for target in part.targets.values():
      if not target.AVERAGES:
        raise UserError(
          f"ensemble: the outputs of the task {part.name} cannot be averaged"
        )


def _check_fields(
  name: str,
  own: Mapping[str, Any],
  others: Mapping[str, Any],
  free: Sequence[str] = (),
) -> None:
  for field, value in own.items():
    if field not in free and value != others.get(field):
      raise UserError(
        f"{name}.{field}: {value!r:.200}, but the others have"
        f" {others.get(field)!r:.200}"
      )


def _check_parameters(name: str, params: Parameters, first: Parameters) -> None:
  own, others = (
    {path: x.shape for path, x in trees.flatten(tree).items()}
    for tree in (params, first)
  )
  for path in sorted(own.keys() | others.keys()):
    if own.get(path) != others.get(path):
      raise UserError(
        f"{name}: the parameter {path} has shape {own.get(path)}, that of the"
        f" others {others.get(path)}"
      )


def _mean_task(tasks: Sequence[Task]) -> Task:
  """The first task with the means of what was tuned for each of them."""
  first = tasks[0]
  if first.parts:
    parts = {
      name: _mean_task([task.parts[name] for task in tasks])
      for name in first.parts
    }
    return dataclasses.replace(first, tasks=parts)
  return first.with_targets(
    {
      name: _mean_target([task.targets[name] for task in tasks])
      for name in first.targets
    }
  )


def _mean_target(targets: Sequence[Target]) -> Target:
  first = targets[0]
  tuned = {}
  for name in first.TUNED:
    values = [getattr(target, name) for target in targets]
    if all(value != () for value in values):
      tuned[name] = jax.tree.map(lambda *x: float(np.mean(x)), *values)
  return dataclasses.replace(first, **tuned)
