"""Lowers the update of a recipe for abstract devices."""

from collections.abc import Sequence
from typing import NamedTuple

import jax

from bert_jax.models.config import encoder_config
from bert_jax.settings import UserError
from bert_jax.tasks import pretraining
from bert_jax.tasks.pretraining import CorpusDataConfig
from bert_jax.tasks.task import Task
from bert_jax.training import run
from bert_jax.training.compilation import CompiledUpdate
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.training.recipe import Recipe
from bert_jax.training.train import make_update
from bert_jax.types import Batch, TrainState


class LoweredUpdate(NamedTuple):
  """A lowered update and its arguments.

  Attributes:
    task: the task of the recipe.
    data: the data section of the recipe.
    layout: the mesh of the devices and the sharding rules.
    state: shape structs with shardings.
    batch: shape structs with shardings, of all rows.
    lowered: the update, to be compiled.
  """

  task: Task
  data: CorpusDataConfig
  layout: partitioning.Layout
  state: TrainState
  batch: Batch
  lowered: jax.stages.Lowered


def lower(recipe: Recipe, devices: Sequence[jax.Device]) -> LoweredUpdate:
  """Lowers the update of `training.train` for some devices.

  Reads no data: the size of the vocabulary is that of the recipe.

  Raises:
    UserError: the recipe lacks a value, or does not fit the devices.
  """
  task, data = _task(recipe)
  layout = partitioning.make_layout(recipe.mesh, devices)
  meshes.check_rows(recipe.batch_size, recipe.accumulation, layout.mesh)
  optimizer, frozen = run.make_optimizer(recipe, task)
  state = partitioning.state_shapes(
    lambda: run.initial_state(recipe, task, optimizer), layout
  )
  batch = meshes.batch_shapes(
    pretraining.dummy_batch(data), layout.mesh, recipe.batch_size
  )
  update = CompiledUpdate(
    make_update(task, optimizer, recipe.accumulation, frozen),
    layout.mesh,
    recipe.batch_size,
  )
  return LoweredUpdate(
    task, data, layout, state, batch, update.lower(state, batch)
  )


def _task(recipe: Recipe) -> tuple[Task, CorpusDataConfig]:
  if recipe.corpus is None or recipe.init:
    raise UserError(
      "--config: expected a recipe of pretraining from scratch, with a section"
      " corpus"
    )
  if not recipe.steps:
    raise UserError("config.steps: missing; epochs need the data to be counted")
  model = {"vocab_size": recipe.corpus.vocab_size, **recipe.model}
  data = recipe.data_config()
  return data.TASK.bind(encoder_config(model), None), data
