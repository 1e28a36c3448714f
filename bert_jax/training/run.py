"""Training from a recipe, in a folder that survives crashes and restarts.

`train_recipe` builds the objects that `bert_jax.training.train` takes, and
adds what keeps a run whole: the lock of its folder, the watchdog, requests to
stop, and the goodput record.
"""

import contextlib
import functools
from collections.abc import Mapping
from typing import Any

import jax
import optax

from bert_jax import trees
from bert_jax.checkpointing.checkpoints import Checkpoints
from bert_jax.cluster import interruption, processes, run_folder, watchdog
from bert_jax.cluster.goodput import GoodputRecorder
from bert_jax.interop.pretrained import Pretrained
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.tasks.task import Task
from bert_jax.training import evaluation, finetuning, inference, logging
from bert_jax.training import train as train_lib
from bert_jax.training import workdir as workdirs
from bert_jax.training.distillation import cache
from bert_jax.training.distillation import teacher as teacher_lib
from bert_jax.training.distillation.objective import make_loss
from bert_jax.training.distillation.teacher import Teacher
from bert_jax.training.evaluation import EarlyStopping, Evaluated
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.training.metrics import Meter
from bert_jax.training.optim import ema, guard, transforms
from bert_jax.training.optim import optimizer as optimizers
from bert_jax.training.parametrizations import parametrization
from bert_jax.training.recipe import Recipe
from bert_jax.training.trained_only import TrainedOnly
from bert_jax.types import Parameters, TrainState

PROFILE = "profile"

# The phases that count for `config.hours`.
_COUNTED = ("training", "loading", "evaluating", "saving")


def train_recipe(
  recipe: Recipe, workdir: paths.Path, profile: tuple[int, int] | None = None
) -> dict[str, float]:
  """Trains a recipe to its end, from the newest checkpoint if there is one.

  Args:
    recipe: the configuration of the run.
    workdir: the folder for the config, checkpoints and logs.
    profile: the first and the last of the steps whose trace the first process
      writes to `workdir/profile`, to be read by XProf or TensorBoard.

  Returns:
    The metrics of the best evaluation, or of the last one without a metric.

  Raises:
    UserError: the recipe, its data or the folder are invalid.
    Interrupted: the process was asked to stop; the state is saved.
  """
  with contextlib.ExitStack() as stack:
    folder = stack.enter_context(run_folder.held(workdir))
    checkpoints = stack.enter_context(
      Checkpoints(folder.checkpoints, keep=recipe.checkpoint.keep)
    )
    recorder = GoodputRecorder(folder.here)
    pretrained = None
    if recipe.init is not None:
      # The run itself, once it has begun.
      is_whole = checkpoints.steps() and recipe.checkpoint.frozen
      where = workdir if is_whole else recipe.init
      pretrained = workdirs.open_model(
        where, recipe.finetuning.ignore_unexpected
      ).for_task(recipe.task)
    model = recipe.augmentation.model
    teachers = teacher_lib.open_models(recipe.teacher, recipe.task)
    task, data = recipe.make_task(
      pretrained,
      inference.masked_language_model(model) if model else None,
      teachers,
    )
    layout = partitioning.make_layout(recipe.mesh)
    teacher = None
    if teachers:
      teacher = Teacher.load(recipe.teacher, teachers, task, layout)
      data = teacher.identified(data)
    workdirs.claim(folder, recipe, task, data)
    meshes.check_rows(recipe.batch_size, recipe.accumulation, layout.mesh)
    stream = data.training(recipe.batch_size, recipe.seed, None)
    # The length of an epoch of pretraining takes a plan of all its examples.
    epoch = stream.batches_per_epoch if recipe.counts_epochs else 0
    recipe = recipe.planned(epoch)
    optimizer, frozen = make_optimizer(recipe, task)
    logger = stack.enter_context(
      logging.open_logger(folder.here, recipe.logging.loggers, recipe.to_dict())
    )
    if teacher and recipe.teacher.cache:
      where, rows = recipe.teacher.cache, recipe.batch_size
      stream = cache.with_outputs(stream, teacher, where, rows, logger.say)
    hooks = _RunHooks(recipe, folder, recorder, stack, profile)
    parts = recipe.parametrizations(task.config)
    measure = evaluation.make(
      task,
      data,
      layout.mesh,
      recipe.evaluation.batch_size or recipe.batch_size // recipe.accumulation,
      recipe.evaluation.examples or None,
    )

    def evaluate(params: Parameters) -> Evaluated:
      values, tuned = measure(params)
      with jax.set_mesh(layout.mesh):
        own = parametrization.metrics(params, parts)
      return Evaluated(values | own, tuned)

    def params() -> Parameters:
      loaded, new = load_params(recipe, task, layout, pretrained)
      if new:
        logger.say(
          f"not in {recipe.init}, so initialized from the seed:"
          f" {', '.join(new)}"
        )
      return loaded

    _, metrics = train_lib.train(
      task,
      data,
      optimizer,
      steps=recipe.steps,
      batch_size=recipe.batch_size,
      accumulation=recipe.accumulation,
      seed=recipe.seed,
      params=None if pretrained is None else params,
      frozen=frozen,
      loss=teacher and make_loss(task, recipe.teacher, teacher.plan.heads),
      layout=layout,
      stream=stream,
      workers=recipe.workers,
      compiler_options=recipe.compiler_options,
      prepare=None if recipe.teacher.cache else teacher,
      evaluate=evaluate,
      evaluate_every=recipe.evaluation.every,
      early_stopping=EarlyStopping(
        recipe.evaluation.metric,
        recipe.evaluation.patience,
        recipe.evaluation.target,
        max((part.settled(recipe.steps) for part in parts), default=0),
      ),
      checkpoints=checkpoints
      if recipe.checkpoint.frozen
      else TrainedOnly(checkpoints, frozen, recipe.init, params),
      checkpoint_every=recipe.checkpoint.every,
      logger=logger,
      log_every=recipe.logging.every,
      meter=Meter.of(
        task,
        data,
        optimizers.learning_rate(recipe.optimizer, recipe.steps),
        recipe.guard.max_skipped,
      ),
      hooks=hooks,
    )
    hooks.finish()
    return metrics


def make_optimizer(
  recipe: Recipe, task: Task
) -> tuple[optax.GradientTransformation, Parameters]:
  """The optimizer of a recipe, and the mask of frozen parameters.

  The recipe has its number of steps, and has made the task.
  """
  shapes = train_lib.param_shapes(task)
  frozen = finetuning.frozen(shapes, recipe.finetuning)
  parts = recipe.parametrizations(task.config)
  frozen = trees.map_with_path(
    lambda path, x: x or any(part.freezes(path) for part in parts), frozen
  )
  others = {part.name: part.optimizer(recipe.steps) for part in parts}
  others = {name: x for name, x in others.items() if x is not None}
  optimizer = optimizers.make(
    recipe.optimizer,
    recipe.steps,
    trees.map_with_path(
      lambda path, x: x or path.split("/")[0] in others, frozen
    ),
    clocked=recipe.hours > 0,
  )
  if others:
    optimizer = transforms.with_others(optimizer, others)
  if recipe.ema.decay:
    optimizer = ema.with_ema(optimizer, recipe.ema.decay)
  return guard.guarded(optimizer, recipe.guard), frozen


def initial_state(
  recipe: Recipe, task: Task, optimizer: optax.GradientTransformation
) -> TrainState:
  """The state of a recipe before its first update; may be traced."""
  params = train_lib.init_params(task, recipe.seed)
  return train_lib.init_state(params, optimizer, recipe.seed)


def load_params(
  recipe: Recipe,
  task: Task,
  layout: partitioning.Layout,
  pretrained: Pretrained,
) -> tuple[Parameters, tuple[str, ...]]:
  """Loads the parameters of `config.init`, placed as the layout says.

  The second value are the names of those that are newly initialized.
  """
  params, new = pretrained.params(
    task,
    functools.partial(partitioning.put_parameter, layout),
    recipe.seed,
    functools.partial(finetuning.reinitialized, config=recipe.finetuning),
  )
  # A published encoder may bring a pooler that the task does not use.
  return {name: params[name] for name in train_lib.param_shapes(task)}, new


def schedule_step(recorder: GoodputRecorder, hours: float, steps: int) -> float:
  """The step of a schedule that follows the time of training.

  On a budget of one day, the schedule is best a function of the time (Izsak et
  al. 2021, arXiv:2104.07705; Geiping and Goldstein 2023, arXiv:2212.14034).
  Starting and compiling do not count, nor does what a crash lost. A run that
  is faster than its schedule follows its updates.

  Args:
    recorder: of the run.
    hours: the time of the whole run, over restarts.
    steps: the length of the schedule, and the greatest value.
  """
  share = recorder.spent(_COUNTED) / (hours * 3600)
  return min(max(share * steps, recorder.step), steps)


class _RunHooks(train_lib.Hooks):
  """The surroundings of the loop."""

  def __init__(
    self,
    recipe: Recipe,
    folder: run_folder.Folder,
    recorder: GoodputRecorder,
    stack: contextlib.ExitStack,
    profile: tuple[int, int] | None,
  ):
    self._recipe, self._folder, self._recorder = recipe, folder, recorder
    self._stack, self._has_trained = stack, False
    self._first_traced, self._last_traced = profile or (0, 0)
    if profile and not 1 <= profile[0] <= profile[1] <= recipe.steps:
      raise UserError(
        f"--profile={profile[0]}:{profile[1]}: expected FIRST:LAST within 1"
        f" and {recipe.steps}, the steps of the run"
      )

  def started(self, step: int, metadata: Mapping[str, Any]) -> None:
    self._recorder.resume(metadata.get("goodput"))
    self._recorder.step = step
    self._asked_to_stop = self._stack.enter_context(interruption.watch())
    self._stack.enter_context(
      watchdog.watch(
        self._recorder, self._folder.where, self._recipe.guard.stuck_seconds
      )
    )

  def enter(self, phase: str) -> None:
    self._recorder.enter(phase)

  def clock(self) -> float | None:
    recipe = self._recipe
    if not recipe.hours:
      return None
    return schedule_step(self._recorder, recipe.hours, recipe.steps)

  def before_step(self, step: int) -> None:
    if step == self._first_traced and processes.is_first():
      jax.profiler.start_trace(self._folder.here / PROFILE)
      self._tracing = self._stack.enter_context(contextlib.ExitStack())
      self._tracing.callback(jax.profiler.stop_trace)

  def after_step(self, step: int, state: TrainState) -> bool:
    self._recorder.step, self._has_trained = step, True
    if step == self._last_traced and processes.is_first():
      jax.block_until_ready(state)
      self._tracing.close()
    return self._asked_to_stop(step)

  def metrics(self) -> Mapping[str, float]:
    self._recorder.write()
    return {"goodput": self._recorder.goodput()}

  def before_save(self) -> dict[str, Any]:
    self._folder.put()
    return {"goodput": self._recorder.state()}

  def finish(self) -> None:
    if self._has_trained:
      self._recorder.write()
