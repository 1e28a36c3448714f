"""A run from its recipe: the state to begin with, or to go on from."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from bert_jax.checkpointing.checkpoints import Checkpoints
from bert_jax.data.stream import BatchStream
from bert_jax.interop.pretrained import Pretrained
from bert_jax.tasks.data import TrainingData
from bert_jax.tasks.task import Task
from bert_jax.training import finetuning
from bert_jax.training.best import Best
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.training.optim import guard, optimizer
from bert_jax.training.recipe import Recipe
from bert_jax.types import Parameters, TrainState


@dataclasses.dataclass
class Run:
  """What the loop carries from step to step."""

  recipe: Recipe
  task: Task
  data: TrainingData
  mesh: jax.sharding.Mesh
  optimizer: optax.GradientTransformation
  frozen: Any
  stream: BatchStream
  state: TrainState
  best: Best
  fresh: tuple[str, ...]
  ledger: Mapping[str, Any] | None


class Parts(NamedTuple):
  """What a recipe makes the state and its updates of, without any array.

  Attributes:
    shapes: of the parameters.
    frozen: which of them are not trained.
    optimizer: what turns gradients into updates.
    state_of: from parameters to the state that training begins with.
    initial: the state that training from scratch begins with.
  """

  shapes: Any
  frozen: Any
  optimizer: optax.GradientTransformation
  state_of: Callable[[Parameters], TrainState]
  initial: Callable[[], TrainState]


def make_parts(recipe: Recipe, task: Task) -> Parts:
  """Makes the optimizer and what gives the first state.

  Args:
    recipe: with its number of steps.
    task: made by the recipe.
  """

  def initial_params() -> Parameters:
    batch = jax.tree.map(lambda x: x[None], task.dummy_batch)
    return task.module.init(jax.random.key(recipe.seed), batch)["params"]

  shapes = jax.eval_shape(initial_params)
  frozen = finetuning.frozen(shapes, recipe.finetuning)
  transformation = guard.guarded(
    optimizer.make(
      recipe.optimizer, recipe.steps, frozen, clocked=recipe.hours > 0
    ),
    recipe.guard,
  )

  def state_of(params: Parameters) -> TrainState:
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      optimizer_state=transformation.init(params),
      key=jax.random.key(recipe.seed),
    )

  return Parts(
    shapes,
    frozen,
    transformation,
    state_of,
    lambda: state_of(initial_params()),
  )


def start(
  recipe: Recipe,
  task: Task,
  data: TrainingData,
  checkpoints: Checkpoints,
  pretrained: Pretrained | None,
) -> Run:
  """Makes the state, or takes it from the newest checkpoint that verifies."""
  layout = partitioning.make_layout(recipe.mesh)
  mesh = layout.mesh
  meshes.check_rows(recipe.batch_size, recipe.accumulation, mesh)
  open_stream = functools.partial(data.training, recipe.batch_size, recipe.seed)
  # The length of an epoch of pretraining takes a plan of all its examples.
  epoch = open_stream(None).batches_per_epoch if recipe.counts_epochs else 0
  recipe = recipe.planned(epoch)

  parts = make_parts(recipe, task)
  restored = checkpoints.restore(
    partitioning.state_shapes(parts.initial, layout)
  )
  fresh, metadata = (), {}
  if restored is not None:
    state, metadata = restored
  elif pretrained is None:
    state = partitioning.init_state(parts.initial, layout)
  else:
    params, fresh = _pretrained_params(
      recipe, task, layout, pretrained, parts.shapes
    )
    state = partitioning.init_state(
      parts.initial, layout, parts.state_of, params
    )
  wanted = recipe.evaluation
  best = Best(wanted.metric, wanted.patience, wanted.target)
  best.resume(metadata.get("best"))
  return Run(
    recipe,
    task,
    data,
    mesh,
    parts.optimizer,
    parts.frozen,
    open_stream(metadata.get("position")),
    state,
    best,
    fresh,
    metadata.get("ledger"),
  )


def _pretrained_params(
  recipe: Recipe,
  task: Task,
  layout: partitioning.Layout,
  pretrained: Pretrained,
  shapes: Any,
) -> tuple[Any, tuple[str, ...]]:
  """The weights to go on from, where they are to lie; what begins anew."""
  params, fresh = pretrained.params(
    task,
    functools.partial(partitioning.put_parameter, layout),
    recipe.seed,
    functools.partial(finetuning.reinitialised, config=recipe.finetuning),
  )
  # A published encoder may bring a pooler that the task has no use for.
  return {name: params[name] for name in shapes}, fresh
