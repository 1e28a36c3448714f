"""The training program: the update, and the loop that applies it.

`make_update` returns the pure function from a state and a batch to the next
state. `train` applies it to batch after batch, evaluates and saves. It takes
objects; `bert_jax.training.run` builds them from a recipe.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from bert_jax import trees
from bert_jax.checkpointing.checkpoints import Checkpoints
from bert_jax.cluster.interruption import Interrupted
from bert_jax.data import loader
from bert_jax.data.stream import BatchStream
from bert_jax.tasks.data import TrainingData
from bert_jax.tasks.task import Task
from bert_jax.training import evaluation, finetuning, metrics
from bert_jax.training.compilation import CompiledUpdate
from bert_jax.training.evaluation import EarlyStopping, Evaluate, Evaluated
from bert_jax.training.logging import Logger
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.training.metrics import Meter
from bert_jax.training.optim import ema, guard
from bert_jax.types import Batch, Mean, Parameters, TrainState

Means = dict[str, Mean]

Loss = Callable[[Any, Batch], Mapping[str, Mean]]
"""From the module's outputs and a batch to undivided means, by name."""

Update = Callable[..., tuple[TrainState, Means]]
"""From a state, a batch and optionally a clock to the next state."""


def make_update(
  task: Task,
  optimizer: optax.GradientTransformation,
  accumulation: int = 1,
  frozen: Parameters | None = None,
  loss: Loss | None = None,
) -> Update:
  """Returns the pure update function.

  Args:
    task: gives the module, the loss and the metrics.
    optimizer: updates the parameters.
    accumulation: the number of micro-batches that a batch is split into to
      save memory. Without dropout the result does not depend on it.
    frozen: a tree of bools like the parameters; those under True are not
      trained and their part of the backward pass is not computed.
    loss: replaces `task.loss`. The weight of each mean must depend on the
      batch alone, not on the outputs.

  Returns:
    A function `(state, batch) -> (state, means)`, to be jitted. The means are
    the losses, the metrics, `gradient_norm` (before clipping),
    `non_padding_tokens`, `positions` (padding included), and of the guard
    `skipped_updates` and `skipped_in_a_row`. Means of a skipped update that
    are not finite get the weight 0. A third argument `clock`, float32
    `[devices]`, is the schedule step as each process sees it, for an
    optimizer whose schedule follows the time; its maximum is used, and
    returned among the means.
  """
  loss = loss or task.loss

  def objective(params, batch, weights, key):
    if frozen is not None:
      params = finetuning.stop_frozen(params, frozen)
    outputs = task.module.apply(
      {"params": params}, batch, deterministic=False, rngs={"dropout": key}
    )
    losses = loss(outputs, batch)
    total = sum(
      mean.total / jnp.maximum(weights[name], 1e-9)
      for name, mean in losses.items()
    )
    return total, {**losses, **task.metrics(outputs, batch)}

  gradient = jax.grad(objective, has_aux=True)

  def update_fn(
    state: TrainState, batch: Batch, clock: Array | None = None
  ) -> tuple[TrainState, Means]:
    key = jax.random.fold_in(state.key, state.step)
    weights = _loss_weights(task, loss, state.params, batch)
    if accumulation == 1:
      gradients, means = gradient(state.params, batch, weights, key)
    else:
      gradients, means = _accumulate(
        gradient, state.params, batch, weights, key, accumulation
      )
    one = jnp.ones(())
    # The clocks of processes differ a little; the latest one holds for all.
    now = {} if clock is None else {"clock": clock.max()}
    updates, optimizer_state = optimizer.update(
      gradients, state.optimizer_state, state.params, **now
    )
    if frozen is not None:
      # Whatever the optimizer returned.
      updates = jax.tree.map(
        lambda x, stop: jnp.zeros_like(x) if stop else x, updates, frozen
      )
    means |= {"gradient_norm": Mean(optax.tree.norm(gradients), one)}
    skipped = guard.skipped_in_a_row(optimizer_state)
    means = {name: _if_finite(x, skipped > 0) for name, x in means.items()}
    means |= {
      "skipped_updates": Mean(jnp.float32(skipped > 0), one),
      "skipped_in_a_row": Mean(skipped, one),
      **{name: Mean(value, one) for name, value in now.items()},
      "non_padding_tokens": Mean(
        (batch.sequence_ids > 0).sum().astype(jnp.float32), one
      ),
      "positions": Mean(jnp.float32(batch.token_ids.size), one),
    }
    return dataclasses.replace(
      state,
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      optimizer_state=optimizer_state,
    ), means

  return update_fn


def _if_finite(mean: Mean, is_skipped: Array) -> Mean:
  """The mean, with weight 0 if it is not finite and the update is skipped."""
  counts = jnp.isfinite(mean.total) | ~is_skipped
  return Mean(*(jnp.where(counts, part, 0) for part in mean))


def _loss_weights(
  task: Task, loss: Loss, params: Parameters, batch: Batch
) -> Mapping[str, Array]:
  """The weight of each loss over the whole batch, all micro-batches together.

  A weight depends on the batch alone, so outputs of zeros will do, and the
  compiler removes what only computes them.
  """
  zeros = _zeros(task.module.apply, {"params": params}, batch)
  return {name: mean.weight for name, mean in loss(zeros, batch).items()}


def _zeros(function: Callable[..., Any], *arguments: Any) -> Any:
  """Zeros like the outputs of a function."""
  shapes = jax.eval_shape(function, *arguments)
  return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)


def _accumulate(gradient, params, batch, weights, key, accumulation):
  """Adds up gradients and means over micro-batches, one after the other."""

  def split(x: Array) -> Array:
    # Neighbouring rows go to different micro-batches, so that each device
    # keeps its own rows whatever their number.
    return x.reshape(-1, accumulation, *x.shape[1:]).swapaxes(0, 1)

  def body(carry, inputs):
    index, micro = inputs
    new = gradient(params, micro, weights, jax.random.fold_in(key, index))
    return jax.tree.map(jnp.add, carry, new), None

  micro_batches = jax.tree.map(split, batch)
  first = jax.tree.map(lambda x: x[0], micro_batches)
  zeros = _zeros(gradient, params, first, weights, key)
  indices = jnp.arange(accumulation)
  total, _ = jax.lax.scan(body, zeros, (indices, micro_batches))
  return total


def init_params(task: Task, seed: int = 0) -> Parameters:
  """The initial parameters of a task's module; a function of the seed."""
  return task.init_params(jax.random.key(seed))


def param_shapes(task: Task) -> Parameters:
  """The shape structs of a task's parameters."""
  return jax.eval_shape(functools.partial(init_params, task))


def init_state(
  params: Parameters, optimizer: optax.GradientTransformation, seed: int = 0
) -> TrainState:
  """The state before the first update."""
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    optimizer_state=optimizer.init(params),
    key=jax.random.key(seed),
  )


class Hooks:
  """Calls from the loop of `train`; these do nothing."""

  def started(self, step: int, metadata: Mapping[str, Any]) -> None:
    """Training starts after `step` updates, with a checkpoint's metadata."""

  def enter(self, phase: str) -> None:
    """A phase of `bert_jax.cluster.goodput.PHASES` starts."""

  def clock(self) -> float | None:
    """The step of a schedule that follows the time; None without one."""

  def before_step(self, step: int) -> None:
    """Update number `step`, counted from 1, is about to start."""

  def after_step(self, step: int, state: TrainState) -> bool:
    """Update number `step` is dispatched; True saves and stops the run."""
    del step, state
    return False

  def metrics(self) -> Mapping[str, float]:
    """Further values for the training log."""
    return {}

  def before_save(self) -> Mapping[str, Any]:
    """Further metadata for a checkpoint."""
    return {}


def train(
  task: Task,
  data: TrainingData,
  optimizer: optax.GradientTransformation,
  *,
  steps: int,
  batch_size: int,
  accumulation: int = 1,
  seed: int = 0,
  params: Parameters | Callable[[], Parameters] | None = None,
  frozen: Parameters | Sequence[str] | None = None,
  loss: Loss | None = None,
  layout: partitioning.Layout | None = None,
  stream: BatchStream | None = None,
  workers: int = 0,
  compiler_options: Mapping[str, Any] | None = None,
  prepare: Callable[[Batch], Batch] | None = None,
  evaluate: Evaluate | None = None,
  evaluate_every: int = 0,
  early_stopping: EarlyStopping | None = None,
  checkpoints: Checkpoints | None = None,
  checkpoint_every: int = 0,
  logger: Logger | None = None,
  log_every: int = 100,
  meter: Meter | None = None,
  hooks: Hooks | None = None,
) -> tuple[TrainState, dict[str, float]]:
  """Trains a task for a number of updates.

  >>> state, metrics = train(
  ...   task, data, optax.adamw(1e-4), steps=1000, batch_size=32
  ... )

  Args:
    task: gives the module, the loss and the metrics.
    data: gives the training and the evaluation data.
    optimizer: an Optax transformation.
    steps: the number of updates.
    batch_size: rows of an update, over all devices and hosts.
    accumulation: the number of micro-batches of an update.
    seed: of initial values, dropout, and the order and masks of examples.
    params: the parameters to start from, which are copied, or a function that
      returns them, placed as `layout` says, which is only called if no
      checkpoint is restored and whose result is donated. By default they are
      initialized from the seed.
    frozen: which parameters stay as they are: regular expressions that match
      whole paths, such as `encoder/layer_[0-5]/.*`, or a tree of bools like
      the parameters.
    loss: replaces `task.loss` in the updates; see `make_update`.
    layout: the mesh and how parameters lie on it; by default the parameters
      are replicated on all devices.
    stream: the training batches from their start, if they are open already.
    workers: processes that make batches; 0 makes them in a thread.
    compiler_options: options of XLA for the update.
    prepare: maps a batch on the mesh to that which the update takes, such as
      one with the outputs of a teacher; deterministic.
    evaluate: from parameters to metrics; by default those of `data`.
    evaluate_every: steps between evaluations; there is always one at the end,
      and one before the first update where `params` are given or a metric is
      followed. 0 is only these.
    early_stopping: follows a metric, marks the best checkpoint, and may end
      the run early.
    checkpoints: where states are saved; the newest one is restored first.
    checkpoint_every: steps between checkpoints; there is always one at the
      end. 0 is only this.
    logger: gets metrics and messages; by default nothing is printed.
    log_every: steps between training logs.
    meter: means and throughput of training; by default that of the task.
    hooks: further calls from the loop.

  Returns:
    The final state, and the metrics of the last evaluation, or of the best
    one where `early_stopping` follows a metric. Where the optimizer keeps
    averages of the parameters, these are evaluated: `ema.model_params(state)`.

  Raises:
    UserError: an argument or the data are invalid.
    DivergedError: the loss or the gradients are not finite.
    Interrupted: `hooks` stopped the run; the state is saved.
  """
  layout = layout or partitioning.replicated()
  mesh = layout.mesh
  meshes.check_rows(batch_size, accumulation, mesh)
  stream = stream or data.training(batch_size, seed, None)
  evaluate = evaluate or evaluation.make(
    task, data, mesh, batch_size // accumulation, None
  )
  best = early_stopping or EarlyStopping()
  logger, hooks = logger or Logger(), hooks or Hooks()
  meter = meter or Meter.of(task, data)

  if isinstance(frozen, Sequence):
    frozen = finetuning.matching(param_shapes(task), frozen, "frozen")

  state, metadata = _restore_or_init(
    task, optimizer, layout, seed, params, checkpoints
  )
  first = int(state.step)
  if first:
    stream = stream.at(metadata["position"])
    best.resume(metadata.get("best"))
  # What was tuned belongs to the parameters that it was tuned for, so it is
  # saved with them.
  task_state = metadata.get("task") or task.state()
  logger.start(first, steps)
  hooks.started(first, metadata)
  logger.say(
    f"{trees.count(state.params):,} parameters,"
    f" {jax.device_count()} x {jax.devices()[0].device_kind};"
    f" {'resuming' if first else 'starting'} at step {first} of {steps}"
  )
  for note in data.notes:
    logger.say(note)

  def evaluated_at(step: int, state: TrainState) -> Evaluated:
    hooks.enter("evaluating")
    found = evaluate(ema.model_params(state))
    losses = {n: x for n, x in found.values.items() if n.endswith("loss")}
    metrics.check_finite(losses, step)
    logger.write(step, "eval", found.values)
    return found

  if (hooks.clock() or first) >= steps or best.reason:
    logger.say(f"nothing to do: the run ended at step {first}")
    return state, _outcome(
      best, evaluate(ema.model_params(state)).values, logger
    )
  if not first and (params is not None or best.metric):
    best.check(evaluated_at(0, state).values)

  update = CompiledUpdate(
    make_update(task, optimizer, accumulation, frozen, loss),
    mesh,
    batch_size,
    compiler_options,
    prepare,
  )
  rows = meshes.own_rows(mesh, batch_size)
  meter.resume()
  with loader.training_batches(stream, rows, workers) as batches:
    for step in range(first + 1, steps + 1):
      hooks.before_step(step)
      clock = hooks.clock()
      hooks.enter("loading")
      batch = next(batches)
      if not update.is_compiled(batch):
        meter.pause()
        hooks.enter("compiling")
        update.compile(state, batch, clock)
        meter.resume()
      hooks.enter("training")
      state, means = update(state, batch, clock)
      # Means of an older update: all processes see the same, and none waits.
      older = meter.add(means)
      logger.progress(step)

      time_is_up = (
        clock is not None
        and older is not None
        and float(older["clock"].total) >= steps
      )
      is_last = step == steps or time_is_up
      stop = hooks.after_step(step, state) and not is_last
      save = is_last or stop or _is_due(step, checkpoint_every)
      look = is_last or _is_due(step, evaluate_every)
      if not (save or look or step % log_every == 0):
        continue
      meter.pause()
      logger.write(step, "train", meter.means(step) | hooks.metrics())
      found = evaluated_at(step, state) if look else None
      if found is not None:
        task_state = found.task.state()
      hooks.enter("saving")
      is_best = found is not None and best.update(step, found.values)
      if checkpoints and (save or is_best or best.reason):
        metadata = {
          "position": stream.position_after(step - first),
          "best": best.state(),
          "task": task_state,
          **hooks.before_save(),
        }
        checkpoints.save(state, metadata, best=is_best)
      if stop:
        raise Interrupted(f"stopped at step {step} of {steps}; it is saved")
      if best.reason:
        logger.say(f"stopped at step {step}: {best.reason}")
      if is_last or best.reason:
        break
      meter.resume()
  logger.say(update.summary())
  return state, _outcome(best, found.values, logger)


def _is_due(step: int, every: int) -> bool:
  return every > 0 and step % every == 0


def _restore_or_init(
  task: Task,
  optimizer: optax.GradientTransformation,
  layout: partitioning.Layout,
  seed: int,
  params: Parameters | Callable[[], Parameters] | None,
  checkpoints: Checkpoints | None,
) -> tuple[TrainState, Mapping[str, Any]]:
  """The newest checkpoint and its metadata, or an initial state."""

  def initial() -> TrainState:
    return init_state(init_params(task, seed), optimizer, seed)

  if checkpoints is not None:
    restored = checkpoints.restore(partitioning.state_shapes(initial, layout))
    if restored is not None:
      return restored
  if params is None:
    return partitioning.init_state(initial, layout), {}
  if callable(params):
    placed = params()
  else:
    placed = partitioning.put_copy(layout, params)
  state = partitioning.init_state(
    initial, layout, lambda params: init_state(params, optimizer, seed), placed
  )
  return state, {}


def _outcome(
  best: EarlyStopping, last: Mapping[str, float], logger: Logger
) -> dict[str, float]:
  """The metrics of the evaluation that the model is taken from."""
  if best.step is None:
    return dict(last)
  logger.say(
    f"best {best.metric} {best.values[best.metric]:.4g} at step {best.step};"
    " the model is taken from there"
  )
  return dict(best.values)
