"""One predictor of several models: soups and ensembles."""

import dataclasses
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax import trees
from bert_jax.checkpointing import manifest, metadata, parameters
from bert_jax.models.config import HOW_IT_IS_RUN
from bert_jax.predictor import Predictor, load
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.tasks import TASKS, ensembles
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.training import workdir
from bert_jax.types import Parameters

Where = paths.Path

# Fields of encoders' configurations that predictions do not depend on, or
# that say only how a model is run.
_FREE = (
  *HOW_IT_IS_RUN,
  "attention_dropout",
  "hidden_dropout",
  "initializer_range",
)
# Fields of heads that are fitted to the held-out records of a run.
_TUNED = ("null_threshold", "thresholds")


def soup(
  models: Where | Sequence[Where | Predictor], task: str | None = None
) -> Predictor:
  """One model with the mean of the parameters of several.

  It is as fast as one of them. The uniform soup of Wortsman et al. (2022,
  arXiv:2203.05482): it is for models that were fine-tuned from the same
  weights; means of others are worth nothing.

  Args:
    models: predictors, or what `bert_jax.load` takes; or the folder of one
      run, for all of its checkpoints.
    task: as for `bert_jax.load`.

  Returns:
    A predictor; thresholds that were tuned for each model are averaged too.

  Raises:
    UserError: there is one model only, one cannot be loaded, or they differ
      in task, labels, vocabulary or encoder.
  """
  # One after another, so that not all parameters are in memory at once.
  members = _members(models, task)
  _, first = next(members)
  total, heads = jax.tree.map(_wide, first.params), [first.task.head]
  for name, member in members:
    _check_head(name, member.task, first.task)
    _check_encoder(name, member.task, first.task)
    _check_parameters(name, member.params, first.params)
    total = jax.tree.map(lambda x, y: x + _wide(y), total, member.params)
    heads.append(member.task.head)
  params = jax.tree.map(
    lambda x, like: (x / len(heads)).astype(like.dtype), total, first.params
  )
  made = _with_mean_head(first.task, heads)
  return dataclasses.replace(first, task=made, params=params)


def ensemble(
  models: Where | Sequence[Where | Predictor], task: str | None = None
) -> Predictor:
  """A predictor that asks several models and averages what they hold.

  It takes as long as all of them together. See `tasks.ensembles.Ensemble`
  for what is averaged.

  Args:
    models: predictors, or what `bert_jax.load` takes; or the folder of one
      run, for all of its checkpoints. Their encoders may differ.
    task: as for `bert_jax.load`.

  Returns:
    A predictor; thresholds that were tuned for each model are averaged too.

  Raises:
    UserError: there is one model only, one cannot be loaded, they differ in
      task, labels or vocabulary, or the task is one whose outputs cannot be
      averaged.
  """
  members = list(_members(models, task))
  # What the model with the fewest positions takes, all take.
  _, first = min(members, key=lambda m: m[1].task.config.max_positions)
  for name, member in members:
    _check_head(name, member.task, first.task)
  model = ensembles.Ensemble(
    tuple(member.task.model for _, member in members), first.task.name
  )
  params = {
    ensembles.name(i): member.params for i, (_, member) in enumerate(members)
  }
  made = _with_mean_head(first.task, [m.task.head for _, m in members])
  made = dataclasses.replace(made, model=model)
  return dataclasses.replace(first, task=made, params=params)


WAYS = {"soup": soup, "ensemble": ensemble}
"""The ways to make one predictor of several models, by their names."""


def checkpoints(folder: Where, task: str | None = None) -> Iterator[Predictor]:
  """The models that a run has kept, the oldest first.

  Args:
    folder: the `--workdir` of a run.
    task: as for `bert_jax.load`.

  Raises:
    UserError: there is no such run, or it is damaged.
  """
  kept = metadata.absolute(paths.as_path(folder) / workdir.CHECKPOINTS)
  predictor = load(folder, task)
  # Without the sharding of what is loaded here: it goes where that went.
  shapes = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), predictor.params
  )
  for step in manifest.finished_steps(kept):
    if manifest.damage(kept / str(step)) is None:
      params = parameters.restore_step(kept / str(step), shapes)
      yield dataclasses.replace(predictor, params=params)


def _members(
  models: Where | Sequence[Where | Predictor], task: str | None
) -> Iterator[tuple[str, Predictor]]:
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
    if isinstance(model, Predictor):
      yield f"model {count}", model
    else:
      yield str(model), load(model, task)
  if count < 2:
    raise UserError(f"{one} {count or 'none'}; there is nothing to combine")


def _wide(x: Any) -> jax.Array:
  return jnp.asarray(x, jnp.float32)


def _check_head(name: str, task: Task, first: Task) -> None:
  """Refuses a model whose outputs mean something else."""
  if task.name != first.name:
    raise UserError(
      f"{name}: its task is {task.name}, that of the others {first.name}"
    )
  _check_fields(f"{name}: head", task.head, first.head, _TUNED)
  if _vocabulary(task.tokenizer) != _vocabulary(first.tokenizer):
    raise UserError(f"{name}: its vocabulary is not that of the others")


def _check_encoder(name: str, task: Task, first: Task) -> None:
  _check_fields(f"{name}: model", task.config, first.config, _FREE)


def _check_fields(name: str, of: Any, first: Any, free: Sequence[str]) -> None:
  own, others = (_fields(x) for x in (of, first))
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


def _with_mean_head(task: Task, heads: Sequence[Any]) -> Task:
  """The task with thresholds that are the mean of several heads'."""
  fields = map(_fields, heads)
  tuned = [{name: f[name] for name in _TUNED if name in f} for f in fields]
  if not any(tuned):
    return task
  mean = jax.tree.map(lambda *values: float(np.mean(values)), *tuned)
  head = dataclasses.replace(task.head, **mean)
  return TASKS[task.name].make(task.config, task.tokenizer, head)


def _fields(of: Any) -> Mapping[str, Any]:
  return {} if of is None else dataclasses.asdict(of)


def _vocabulary(tokenizer: Tokenizer | None) -> list[str] | None:
  if tokenizer is None:
    return None
  return [tokenizer.token(id) for id in range(len(tokenizer))]
