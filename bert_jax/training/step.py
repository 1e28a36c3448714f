"""One optimizer update, and one look at held-out data: pure functions."""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from bert_jax.tasks.task import Task
from bert_jax.training import finetuning
from bert_jax.training.optim import guard
from bert_jax.types import Batch, Mean, Parameters, TrainState

Measures = dict[str, Mean]


def make_train_step(
  task: Task,
  optimizer: optax.GradientTransformation,
  accumulation: int = 1,
  frozen: Parameters | None = None,
) -> Callable[..., tuple[TrainState, Measures]]:
  """Makes the function that maps a state and a batch to the next state.

  Args:
    task: gives the model and the loss.
    optimizer: what turns gradients into updates.
    accumulation: how many micro-batches the batch is cut into, to save
      memory; without dropout the result does not depend on it.
    frozen: which parameters are not trained, see `finetuning.frozen`.

  Returns:
    A function to be jitted. Its measures are the losses, the metrics,
    `gradient_norm` (before clipping), `non_padding_tokens`, `positions`, which
    counts padding too, and, of the guard, `skipped_updates` and
    `skipped_in_a_row`. What is not finite of a skipped update has no weight.
    As a third argument it takes the `clock` of the processes, if the
    optimizer has one, and measures which of them holds.
  """

  def objective(params, batch, weights, key):
    if frozen is not None:
      params = finetuning.stop_frozen(params, frozen)
    outputs = task.module.apply(
      {"params": params}, batch, deterministic=False, rngs={"dropout": key}
    )
    losses = task.loss(outputs, batch)
    total = sum(
      mean.total / jnp.maximum(weights[name], 1e-9)
      for name, mean in losses.items()
    )
    return total, losses | task.metrics(outputs, batch)

  gradient = jax.grad(objective, has_aux=True)

  def step(
    state: TrainState, batch: Batch, clock: Array | None = None
  ) -> tuple[TrainState, Measures]:
    key = jax.random.fold_in(state.key, state.step)
    weights = _loss_weights(task, state.params, batch)
    if accumulation == 1:
      gradients, measures = gradient(state.params, batch, weights, key)
    else:
      gradients, measures = _accumulate(
        gradient, state.params, batch, weights, key, accumulation
      )
    one = jnp.ones(())
    # Clocks differ a little: the one that is furthest ahead holds for all.
    now = {} if clock is None else {"clock": clock.max()}
    updates, optimizer_state = optimizer.update(
      gradients, state.optimizer_state, state.params, **now
    )
    measures |= {"gradient_norm": Mean(optax.tree.norm(gradients), one)}
    skipped = guard.skipped_in_a_row(optimizer_state)
    measures = {
      name: _if_finite(mean, skipped > 0) for name, mean in measures.items()
    }
    measures |= {
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
    ), measures

  return step


def _if_finite(mean: Mean, is_skipped: Array) -> Mean:
  """The measure; nothing if it is not finite, of an update that is skipped."""
  counts = jnp.isfinite(mean.total) | ~is_skipped
  return Mean(*(jnp.where(counts, part, 0) for part in mean))


def _loss_weights(
  task: Task, params: Parameters, batch: Batch
) -> Mapping[str, Array]:
  """The weight of each loss over the whole batch, micro-batches together.

  A weight depends on the batch alone, so outputs of zeros will do, and the
  compiler drops what only they would feed.
  """
  shapes = jax.eval_shape(task.module.apply, {"params": params}, batch)
  zeros = jax.tree.map(
    lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes
  )
  return {name: mean.weight for name, mean in task.loss(zeros, batch).items()}


def _accumulate(gradient, params, batch, weights, key, accumulation):
  """Adds up gradients and measures over micro-batches, one at a time."""

  def cut(x: Array) -> Array:
    # Neighbouring rows go to different micro-batches, so that each device
    # keeps its own rows whatever their number.
    return x.reshape(-1, accumulation, *x.shape[1:]).swapaxes(0, 1)

  def body(carry, inputs):
    index, micro = inputs
    new = gradient(params, micro, weights, jax.random.fold_in(key, index))
    return jax.tree.map(jnp.add, carry, new), None

  micro_batches = jax.tree.map(cut, batch)
  shapes = jax.eval_shape(
    gradient, params, jax.tree.map(lambda x: x[0], micro_batches), weights, key
  )
  zeros = jax.tree.map(
    lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes
  )
  indices = jnp.arange(accumulation)
  total, _ = jax.lax.scan(body, zeros, (indices, micro_batches))
  return total
