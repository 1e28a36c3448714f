"""A guard that skips updates whose gradients are not finite or too large.

In low precision, or on bad data, a gradient may be infinite, NaN or far larger
than any before. One such update can ruin a run of weeks; skipping it costs one
batch. Skipped updates are counted, and too many in a row end the run.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from bert_jax import settings

# The number of updates before the deviation of gradient norms is used.
_WARMUP = 100
_KEPT = 0.99


@dataclasses.dataclass(frozen=True)
class GuardConfig:
  """The section `config.guard`.

  Attributes:
    max_skipped: the number of skipped updates in a row that ends the run; its
      last checkpoint is good.
    spike_sigmas: an update is also skipped if the norm of its gradients is
      this number of standard deviations above the running mean (over about a
      hundred updates, in logarithms); 0 skips only gradients that are not
      finite. OLMo's SkipStepAdamW uses 6 (OLMo et al. 2025, arXiv:2501.00656).
    stuck_seconds: a process without progress for this time exits with a report
      (see `bert_jax.cluster.watchdog`); it must exceed the time of any
      compilation and evaluation. 0 is no limit.
  """

  max_skipped: int = 10
  spike_sigmas: float = 0.0
  stuck_seconds: float = 3600.0

  def __post_init__(self):
    settings.check(self, "at least 1", lambda x: x >= 1, "max_skipped")
    limits = ("spike_sigmas", "stuck_seconds")
    settings.check(self, "at least 0", lambda x: 0 <= x < math.inf, *limits)


class GuardState(NamedTuple):
  """The state of the guard and of the optimizer that it guards.

  Attributes:
    inner: the optimizer's state; a skipped update does not change it, but for
      the counts of schedules: these follow the steps of the run.
    skipped_in_a_row: the number of updates skipped since the last applied one.
    done: the number of applied updates.
    mean: the running mean of the logarithms of gradient norms.
    square: the running mean of their squares.
  """

  inner: Any
  skipped_in_a_row: Int[Array, ""]
  done: Int[Array, ""]
  mean: Float[Array, ""]
  square: Float[Array, ""]


def guarded(
  inner: optax.GradientTransformation, config: GuardConfig
) -> optax.GradientTransformationExtraArgs:
  """Wraps an optimizer so that bad updates are zero.

  The state of the transformation is a `GuardState`.
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

    def keep_state(new: Any, old: Any) -> Any:
      return new if _is_schedule(new) else keep(new, old)

    def average(old: Array, value: Array) -> Array:
      # A plain mean at first, so that the initial 0 has no influence.
      weight = jnp.maximum(1 - _KEPT, 1 / (state.done + 1))
      return keep(old + weight * (value - old), old)

    return jax.tree.map(lambda x: keep(x, jnp.zeros_like(x)), updates), (
      GuardState(
        inner=jax.tree.map(
          keep_state, after, state.inner, is_leaf=_is_schedule
        ),
        skipped_in_a_row=keep(0, state.skipped_in_a_row + 1),
        done=state.done + is_good,
        mean=average(state.mean, height),
        square=average(state.square, height**2),
      )
    )

  return optax.GradientTransformationExtraArgs(init, update)


def _is_schedule(state: Any) -> bool:
  """Whether a state is a count alone, as `optax.ScaleByScheduleState`."""
  return getattr(state, "_fields", None) == ("count",)


def skipped_in_a_row(optimizer_state: Any) -> Int[Array, ""]:
  """The number of updates skipped in a row; 0 without a guard."""
  found = optax.tree.get(optimizer_state, "skipped_in_a_row")
  return jnp.zeros((), jnp.int32) if found is None else found
