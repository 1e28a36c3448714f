"""Updates that would do harm are skipped, counted, and end a run if they go on.

In low precision, and on bad data, a gradient is now and then infinite or no
number, or far larger than ever before. One such update can spoil a run that
took weeks; leaving it out costs one batch.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

# Updates before the spread of gradient norms is known well enough.
_WARMUP = 100
_KEPT = 0.99


@dataclasses.dataclass(frozen=True)
class GuardConfig:
  """The section `config.guard`.

  Attributes:
    max_skipped: the run ends, with its last checkpoint good, after so many
      skipped updates in a row.
    spike_sigmas: skip an update, too, if the norm of its gradients is so many
      standard deviations above the running mean of such norms (over about a
      hundred updates, in logarithms); 0 skips only what is not finite. OLMo's
      SkipStepAdamW does so with 6 (OLMo et al. 2025, arXiv:2501.00656).
    stuck_seconds: a process that gets no further for so long ends, and tells
      what all are at (see `watchdog`); longer than any compilation and
      evaluation takes. 0 never ends one.
  """

  max_skipped: int = 10
  spike_sigmas: float = 0.0
  stuck_seconds: float = 3600.0

  def __post_init__(self):
    if self.max_skipped < 1:
      raise ValueError(
        f"max_skipped: expected at least 1, got {self.max_skipped}"
      )
    for name in ("spike_sigmas", "stuck_seconds"):
      if not 0 <= getattr(self, name) < float("inf"):
        raise ValueError(
          f"{name}: expected at least 0, got {getattr(self, name)}"
        )


class GuardState(NamedTuple):
  """What the guard remembers, and the state of the optimizer that it guards.

  Attributes:
    inner: of the optimizer; a skipped update leaves it as it was.
    skipped_in_a_row: the skipped updates since the last that was done.
    done: updates that were done.
    mean: running mean of the logarithms of gradient norms.
    square: running mean of their squares.
  """

  inner: Any
  skipped_in_a_row: Int[Array, ""]
  done: Int[Array, ""]
  mean: Float[Array, ""]
  square: Float[Array, ""]


def guarded(
  inner: optax.GradientTransformation, config: GuardConfig
) -> optax.GradientTransformationExtraArgs:
  """An optimizer whose harmful updates are zero.

  Args:
    inner: the optimizer.
    config: what counts as harmful.

  Returns:
    A transformation with a `GuardState`.
  """
  inner = optax.with_extra_args_support(inner)

  def init(params: Any) -> GuardState:
    zero = jnp.zeros(())
    count = jnp.zeros((), jnp.int32)
    return GuardState(inner.init(params), count, count, zero, zero)

  def update(
    gradients: Any, state: GuardState, params: Any = None, **extra: Any
  ) -> tuple[Any, GuardState]:
    norm = optax.tree.norm(gradients)
    height = jnp.log(jnp.maximum(norm, 1e-30))
    is_good = jnp.isfinite(norm)
    if config.spike_sigmas:
      spread = jnp.sqrt(jnp.maximum(state.square - state.mean**2, 1e-6))
      limit = state.mean + config.spike_sigmas * spread
      is_good &= (state.done < _WARMUP) | (height <= limit)
    updates, after = inner.update(gradients, state.inner, params, **extra)

    def keep(new: Array, old: Array) -> Array:
      return jnp.where(is_good, new, old)

    def average(old: Array, value: Array) -> Array:
      # A plain mean at first, so that the beginning at 0 leaves no trace.
      weight = jnp.maximum(1 - _KEPT, 1 / (state.done + 1))
      return keep(old + weight * (value - old), old)

    return jax.tree.map(lambda x: keep(x, jnp.zeros_like(x)), updates), (
      GuardState(
        inner=jax.tree.map(keep, after, state.inner),
        skipped_in_a_row=keep(0, state.skipped_in_a_row + 1),
        done=state.done + is_good,
        mean=average(state.mean, height),
        square=average(state.square, height**2),
      )
    )

  return optax.GradientTransformationExtraArgs(init, update)


def skipped_in_a_row(optimizer_state: Any) -> Int[Array, ""]:
  """How many updates were skipped since the last one; 0 without a guard."""
  found = optax.tree.get(optimizer_state, "skipped_in_a_row")
  return jnp.zeros((), jnp.int32) if found is None else found
