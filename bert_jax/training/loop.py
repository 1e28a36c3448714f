"""The one loop that trains every task."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bert_jax import trees
from bert_jax.data import loader
from bert_jax.data.stream import Stream
from bert_jax.interop.pretrained import Pretrained
from bert_jax.models import flops
from bert_jax.settings import UserError
from bert_jax.tasks.task import Task
from bert_jax.training import (
  evaluation,
  interruption,
  opening,
  optimizer,
  partitioning,
  step,
)
from bert_jax.training import workdir as workdirs
from bert_jax.training.checkpoint import Checkpoints
from bert_jax.training.logging import Logger
from bert_jax.training.recipe import Recipe
from bert_jax.training.state import TrainState
from bert_jax.training.window import Window
from bert_jax.types import Batch


def train(recipe: Recipe, workdir: pathlib.Path) -> dict[str, float]:
  """Trains a recipe to its end, from the newest checkpoint if there is one.

  Args:
    recipe: what to do.
    workdir: the folder for config, checkpoints and figures.

  Returns:
    The measures of the last evaluation.

  Raises:
    UserError: something that the user gave is wrong.
    Interrupted: the process was asked to stop; the state is saved.
  """
  with (
    workdirs.locked(workdir),
    Checkpoints(
      workdir / workdirs.CHECKPOINTS, keep=recipe.checkpoint.keep
    ) as checkpoints,
  ):
    pretrained = _pretrained(recipe, workdir, bool(checkpoints.steps()))
    task = recipe.make_task(pretrained)
    workdirs.claim(workdir, recipe, task)
    run = _start(recipe, task, checkpoints, pretrained)
    with (
      Logger(workdir, int(run.state.step), recipe.steps) as logger,
      interruption.watch() as asked,
    ):
      return _run(run, checkpoints, logger, asked.is_set)


@dataclasses.dataclass
class _Run:
  """What the loop carries from step to step."""

  recipe: Recipe
  task: Task
  mesh: jax.sharding.Mesh
  optimizer: optax.GradientTransformation
  state: TrainState
  position: Mapping[str, int] | None
  fresh: tuple[str, ...]


def _pretrained(
  recipe: Recipe, workdir: pathlib.Path, has_begun: bool
) -> Pretrained | None:
  """What the run goes on from; the run itself, once it has begun."""
  if recipe.init is None:
    return None
  return opening.open_model(workdir if has_begun else recipe.init)


def _start(
  recipe: Recipe,
  task: Task,
  checkpoints: Checkpoints,
  pretrained: Pretrained | None,
) -> _Run:
  """Makes the state, or takes it from the newest checkpoint that verifies."""
  mesh = partitioning.make_mesh(recipe.mesh)
  rows = partitioning.batch_devices(mesh) * recipe.accumulation
  if recipe.batch_size % rows:
    raise UserError(
      f"config.batch_size: {recipe.batch_size} rows do not divide over"
      f" {rows // recipe.accumulation} devices x {recipe.accumulation}"
      " micro-batches"
    )
  transformation = optimizer.make(recipe.optimizer, recipe.steps)

  def initial() -> TrainState:
    batch = jax.tree.map(lambda x: x[None], task.blank)
    params = task.model.init(jax.random.key(recipe.seed), batch)["params"]
    return TrainState(
      step=jnp.zeros((), jnp.int32),
      params=params,
      optimizer_state=transformation.init(params),
      key=jax.random.key(recipe.seed, impl=recipe.prng),
    )

  restored = checkpoints.restore(partitioning.state_shapes(initial, mesh))
  fresh = ()
  if restored is None:
    state, position = partitioning.init_state(initial, mesh), None
    if pretrained is not None:
      place = functools.partial(partitioning.put_parameter, mesh)
      params, fresh = pretrained.params(task, place, recipe.seed)
      state = dataclasses.replace(state, params=params)
  else:
    state, metadata = restored
    position = metadata["position"]
  return _Run(recipe, task, mesh, transformation, state, position, fresh)


def _run(
  run: _Run,
  checkpoints: Checkpoints,
  logger: Logger,
  asked_to_stop: Callable[[], bool],
) -> dict[str, float]:
  """Goes from the run's state to its last step."""
  recipe, first = run.recipe, int(run.state.step)
  logger.say(
    f"{trees.count(run.state.params):,} parameters,"
    f" {jax.device_count()} x {jax.devices()[0].device_kind};"
    f" {'going on' if first else 'beginning'} at step {first}"
  )
  if run.fresh:
    logger.say(
      f"not in {recipe.init}, so with initial values: {', '.join(run.fresh)}"
    )
  evaluate = _make_evaluate(run)
  if first >= recipe.steps:
    logger.say(f"nothing to do: all {recipe.steps} steps are done")
    return evaluate()
  if recipe.init is not None and not first:
    logger.write(0, "held_out", evaluate())
  update = _compile(run)
  window = _make_window(run)
  stream = Stream(
    run.task.data.training(), recipe.batch_size, recipe.seed, run.position
  )
  with loader.training_batches(
    stream, *_hosts(), workers=recipe.workers
  ) as batches:
    for done in range(first + 1, recipe.steps + 1):
      batch = partitioning.put_batch(next(batches), run.mesh)
      run.state, measures = update(run.state, batch)
      window.add(measures)
      logger.progress(done)
      last = done == recipe.steps
      stop = asked_to_stop() and not last
      save = last or stop or done % recipe.checkpoint.every == 0
      look = last or done % recipe.evaluation.every == 0
      if not (save or look or done % recipe.logging.every == 0):
        continue
      window.pause()
      logger.write(done, "train", window.close(done))
      if look:
        values = evaluate()
        logger.write(done, "held_out", values)
      if save:
        position = stream.position_after(done - first)
        checkpoints.save(run.state, {"position": position})
      if stop:
        raise interruption.Interrupted(
          f"stopped at step {done} of {recipe.steps}, which is saved"
        )
      window.resume()
  return values


def _compile(run: _Run) -> Callable[[TrainState, Batch], Any]:
  """The update, compiled before the clock starts; it donates the state."""
  rows = run.recipe.batch_size // jax.process_count()
  batch = jax.tree.map(
    lambda x: np.broadcast_to(x, (rows, *x.shape)), run.task.blank
  )
  update = jax.jit(
    step.make_train_step(run.task, run.optimizer, run.recipe.accumulation),
    donate_argnums=0,
    # Else the compiler may lay the next state out in another way.
    out_shardings=(jax.tree.map(lambda x: x.sharding, run.state), None),
  )
  batch = partitioning.put_batch(batch, run.mesh)
  return update.lower(run.state, batch).compile()


def _make_evaluate(run: _Run) -> Callable[[], dict[str, float]]:
  """A function that measures the run's parameters on held-out examples."""
  wanted = run.recipe.evaluation
  measure = jax.jit(step.make_evaluation_step(run.task))
  size = wanted.batch_size or run.recipe.batch_size
  batches = list(
    loader.evaluation_batches(
      run.task.data.evaluation(), size, wanted.examples, *_hosts()
    )
  )
  baselines = run.task.data.baselines(batches)

  def evaluate() -> dict[str, float]:
    put = (partitioning.put_batch(batch, run.mesh) for batch in batches)
    values = evaluation.evaluate(measure, run.state.params, put)
    return values | baselines

  return evaluate


def _make_window(run: _Run) -> Window:
  recipe, task = run.recipe, run.task
  device = jax.devices()[0]
  peak = flops.peak_flops(device.device_kind)
  return Window(
    learning_rate=optimizer.learning_rate(recipe.optimizer, recipe.steps),
    flops_per_token=flops.training_flops_per_token(
      task.config, task.data.length, task.data.predictions
    ),
    peak_flops=peak and peak * jax.device_count(),
    row_tokens=recipe.batch_size * task.data.length,
  )


def _hosts() -> tuple[int, int]:
  """Which share of each batch this process draws, of how many."""
  return jax.process_index(), jax.process_count()
