"""The one loop that trains every task."""

import dataclasses
from collections.abc import Mapping

import jax

from bert_jax import trees
from bert_jax.checkpointing.checkpoints import Checkpoints
from bert_jax.cluster import interruption, processes, watchdog
from bert_jax.cluster import run_folder as folder_lib
from bert_jax.cluster.goodput import Ledger
from bert_jax.data import loader
from bert_jax.data.loader import Batches
from bert_jax.interop.pretrained import Pretrained
from bert_jax.models import flops
from bert_jax.storage import paths
from bert_jax.training import (
  clock,
  evaluation,
  logging,
  masked_lm_augmentation,
  opening,
)
from bert_jax.training import workdir as workdirs
from bert_jax.training.logging import Log
from bert_jax.training.mesh import meshes
from bert_jax.training.optim import optimizer
from bert_jax.training.recipe import Recipe
from bert_jax.training.run import Run, start
from bert_jax.training.updates import Updates
from bert_jax.training.window import Window, check


def train(recipe: Recipe, workdir: paths.Path) -> dict[str, float]:
  """Trains a recipe to its end, from the newest checkpoint if there is one.

  Args:
    recipe: what to do.
    workdir: the folder for config, checkpoints and figures.

  Returns:
    The measures of the best evaluation, or of the last one where the recipe
    names no measure to tell the best by.

  Raises:
    UserError: something that the user gave is wrong.
    Interrupted: the process was asked to stop; the state is saved.
  """
  with (
    folder_lib.held(workdir) as folder,
    Checkpoints(folder.checkpoints, keep=recipe.checkpoint.keep) as checkpoints,
  ):
    ledger = Ledger(folder.here)
    pretrained = _pretrained(recipe, workdir, bool(checkpoints.steps()))
    model = recipe.augmentation.model
    augmentation_model = (
      masked_lm_augmentation.open_model(model) if model else None
    )
    task, data = recipe.make_task(pretrained, augmentation_model)
    workdirs.claim(folder, recipe, task, data)
    run = start(recipe, task, data, checkpoints, pretrained)
    ledger.resume(run.ledger)
    with (
      logging.open_log(
        folder.here, int(run.state.step), run.recipe.steps
      ) as logger,
      interruption.watch() as asked,
      watchdog.watch(ledger, folder.where, recipe.guard.stuck_seconds),
    ):
      return _Loop(run, folder, checkpoints, logger, ledger).run(asked)


def _pretrained(
  recipe: Recipe, workdir: paths.Path, has_begun: bool
) -> Pretrained | None:
  """What the run goes on from; the run itself, once it has begun."""
  if recipe.init is None:
    return None
  return opening.open_model(workdir if has_begun else recipe.init)


@dataclasses.dataclass
class _Loop:
  """The run, and all that it writes to."""

  of: Run
  folder: folder_lib.Folder
  checkpoints: Checkpoints
  logger: Log
  ledger: Ledger

  def run(self, asked_to_stop: interruption.Asked) -> dict[str, float]:
    """Goes from the run's state to its last step."""
    run, recipe, logger = self.of, self.of.recipe, self.logger
    ledger, first = self.ledger, int(run.state.step)
    ledger.step = first
    self._say_what_begins(first)
    wanted = recipe.evaluation
    evaluate = evaluation.make(
      run.task,
      run.data,
      run.mesh,
      wanted.batch_size or recipe.batch_size // recipe.accumulation,
      wanted.examples or None,
    )
    if self._now() >= recipe.steps or run.best.is_over:
      logger.say(f"nothing to do: the run ended at step {first}")
      return self._outcome(evaluate(run.state.params).values)
    if not first and (recipe.init is not None or wanted.metric):
      run.best.check(self._evaluate(evaluate, 0).values)
    window = _make_window(run)
    update = Updates(run.task, run.optimizer, recipe, run.mesh, run.frozen)
    rows = meshes.own_rows(run.mesh, recipe.batch_size)
    with loader.training_batches(run.stream, rows, recipe.workers) as batches:
      for done in range(first + 1, recipe.steps + 1):
        time_is_up = self._update(update, batches, window)
        logger.progress(done)
        last = done == recipe.steps or time_is_up
        stop = asked_to_stop(done) and not last
        save = last or stop or done % recipe.checkpoint.every == 0
        look = last or done % wanted.every == 0
        if not (save or look or done % recipe.logging.every == 0):
          continue
        window.pause()
        values = window.close(done)
        ledger.write()
        logger.write(done, "train", values | {"goodput": ledger.goodput()})
        found = self._evaluate(evaluate, done) if look else None
        over = self._keep(done, first, found, save)
        if stop:
          raise interruption.Interrupted(
            f"stopped at step {done} of {recipe.steps}, which is saved"
          )
        if over or last:
          break
        window.resume()
    ledger.write()
    logger.say(update.summary())
    return self._outcome(found.values)

  def _now(self) -> float:
    """Where the run is in its schedule."""
    recipe, ledger = self.of.recipe, self.ledger
    if not recipe.hours:
      return ledger.step
    return clock.now(ledger, recipe.hours, recipe.steps)

  def _update(self, update: Updates, batches: Batches, window: Window) -> bool:
    """Takes the next batch and does one update; whether the time is up."""
    run, ledger = self.of, self.ledger
    clock_now = self._now() if run.recipe.hours else None
    ledger.turn("loading")
    batch = next(batches)
    if not update.knows(batch):
      window.pause()
      ledger.turn("compiling")
      update.compile(run.state, batch, clock_now)
      window.resume()
    ledger.turn("training")
    run.state, measures = update(run.state, batch, clock_now)
    ledger.step += 1
    # Of an older update, so that all processes see the same and none waits.
    seen = window.add(measures)
    return (
      clock_now is not None
      and seen is not None
      and float(seen["clock"].total) >= run.recipe.steps
    )

  def _evaluate(
    self, evaluate: evaluation.Evaluate, done: int
  ) -> evaluation.Evaluated:
    """Measures the state as it is, and writes what was found."""
    self.ledger.turn("evaluating")
    found = evaluate(self.of.state.params)
    losses = {n: x for n, x in found.values.items() if n.endswith("loss")}
    check(losses, done)
    self.logger.write(done, "eval", found.values)
    return found

  def _keep(
    self,
    done: int,
    first: int,
    found: evaluation.Evaluated | None,
    save: bool,
  ) -> bool:
    """Saves what is to be saved; whether the run is over before its end."""
    run, best = self.of, self.of.best
    self.ledger.turn("saving")
    is_best = found is not None and best.see(done, found.values)
    if save or is_best or best.is_over:
      changes = found is not None and (is_best or not best.metric)
      if changes and processes.is_first():
        workdirs.write_task(self.folder.here, found.task)
      metadata = {
        "position": run.stream.position_after(done - first),
        "best": best.state(),
        "ledger": self.ledger.state(),
      }
      self.folder.put()
      self.checkpoints.save(run.state, metadata, best=is_best)
    if best.is_over:
      self.logger.say(f"stopped at step {done}: {best.why_over}")
    return best.is_over

  def _outcome(self, last: Mapping[str, float]) -> dict[str, float]:
    """The measures that the run is known by."""
    best = self.of.best
    if best.step is None:
      return dict(last)
    self.logger.say(
      f"best {best.metric} {best.values[best.metric]:.4g} at step {best.step},"
      " which the model is now taken from"
    )
    return dict(best.values)

  def _say_what_begins(self, first: int) -> None:
    run, say = self.of, self.logger.say
    say(
      f"{trees.count(run.state.params):,} parameters,"
      f" {jax.device_count()} x {jax.devices()[0].device_kind};"
      f" {'going on' if first else 'beginning'} at step {first} of"
      f" {run.recipe.steps}"
    )
    for note in run.data.notes:
      say(note)
    if run.fresh:
      say(
        f"not from {run.recipe.init}, so with initial values:"
        f" {', '.join(run.fresh)}"
      )


def _make_window(run: Run) -> Window:
  recipe, task = run.recipe, run.task
  device = jax.devices()[0]
  peak = flops.peak_flops(device.device_kind)
  return Window(
    learning_rate=optimizer.learning_rate(recipe.optimizer, recipe.steps),
    flops_per_token=flops.training_flops_per_token(
      task.config, run.data.max_length, run.data.predictions
    ),
    peak_flops=peak and peak * jax.device_count(),
    max_skipped=recipe.guard.max_skipped,
  )
