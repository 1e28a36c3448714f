"""Learning rate schedules: a linear warm-up, then one of several decays."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping

import jax.numpy as jnp
import optax

from bert_jax import settings


@dataclasses.dataclass(frozen=True)
class ScheduleConfig:
  """The section `config.optimizer.schedule`.

  The rate rises linearly from 0 to its peak over the warm-up and decays from
  there. As in Google's `optimization.py`, the first update (step 0) of a run
  with a warm-up has the rate 0. (NVIDIA's `schedulers.py` uses the same curve
  shifted by one step.)

  Attributes:
    name: a name in `DECAYS`.
    warmup_steps: the number of updates until the peak.
    warmup_fraction: the same as a share of the run's steps; give one of the
      two.
    decay_steps: the length of the decay; by default until the end of the run.
    decay_from_start: whether the decay is counted from step 0, so that the
      rate drops at the end of the warm-up (Google's BERT, the LAMB recipes of
      NVIDIA and MLPerf), or from the end of the warm-up (Hugging Face,
      MosaicBERT). `inverse_sqrt` is the same either way.
    end_fraction: the rate at the end of the decay and after it, as a share of
      the peak; not for `constant` and `inverse_sqrt`.
    power: of the `polynomial` decay; NVIDIA's LAMB uses 0.5.
  """

  name: str = "linear"
  warmup_steps: int = 0
  warmup_fraction: float = 0.0
  decay_steps: int | None = None
  decay_from_start: bool = True
  end_fraction: float = 0.0
  power: float = 1.0

  def __post_init__(self):
    settings.choice("config.optimizer.schedule.name", self.name, DECAYS)
    check = functools.partial(settings.check, self)
    check("at least 0", lambda x: x >= 0, "warmup_steps")
    check("a share in [0, 1)", lambda x: 0 <= x < 1, "warmup_fraction")
    check("at least 1", lambda x: x is None or x >= 1, "decay_steps")
    check("a share in [0, 1]", lambda x: 0 <= x <= 1, "end_fraction")
    check("above 0", lambda x: 0 < x < math.inf, "power")
    if self.warmup_steps and self.warmup_fraction:
      raise ValueError(
        f"warmup_fraction: {self.warmup_fraction} and warmup_steps"
        f" {self.warmup_steps} are given; give one of the two"
      )
    if self.name == "exponential" and self.end_fraction == 0:
      raise ValueError(
        "end_fraction: an exponential decay never reaches 0; expected a share"
        " above 0"
      )


def make(
  config: ScheduleConfig, peak: float, total_steps: int
) -> optax.Schedule:
  """The learning rate as a function of the step.

  Args:
    config: the schedule.
    peak: the rate at the end of the warm-up.
    total_steps: the number of updates of the run.

  Returns:
    A function from the number of updates done to a float32 scalar.

  Raises:
    UserError: the run has no step, or none after the warm-up.
  """
  if total_steps < 1:
    raise settings.UserError(
      f"config: expected a run of at least 1 step, got {total_steps}"
    )
  warmup = config.warmup_steps or round(config.warmup_fraction * total_steps)
  if warmup >= total_steps:
    raise settings.UserError(
      f"config.optimizer.schedule.warmup_steps: {warmup} warm-up steps do not"
      f" fit in a run of {total_steps}"
    )
  start = 0 if config.decay_from_start else warmup
  if config.name == "inverse_sqrt":
    start = 0
  length = config.decay_steps or total_steps - start
  decay = DECAYS[config.name](config, peak, length, warmup)

  def schedule(step):
    rising = peak * step / max(warmup, 1)
    rate = jnp.where(step < warmup, rising, decay(step - start))
    return jnp.asarray(rate, jnp.float32)

  return schedule


# Each decay maps (config, peak rate, decay steps, warm-up steps) to a
# function from the steps counted since the decay's start to the rate.
Decay = Callable[[ScheduleConfig, float, int, int], optax.Schedule]


def _constant(config, peak, length, warmup):
  return optax.constant_schedule(peak)


def _linear(config, peak, length, warmup):
  return _power_decay(peak, config.end_fraction * peak, 1.0, length)


def _polynomial(config, peak, length, warmup):
  return _power_decay(peak, config.end_fraction * peak, config.power, length)


def _power_decay(peak, end, power, length):
  # Not `optax.polynomial_schedule`: jit turns its division by a constant into
  # a product, so that the remaining share can round to just below 0 at the
  # end, and its root is NaN.
  def decay(step):
    left = jnp.clip(length - step, 0, length) / length
    return end + (peak - end) * left**power

  return decay


def _cosine(config, peak, length, warmup):
  return optax.cosine_decay_schedule(peak, length, config.end_fraction)


def _exponential(config, peak, length, warmup):
  end = config.end_fraction * peak
  return optax.exponential_decay(
    peak, length, config.end_fraction, end_value=end
  )


def _inverse_sqrt(config, peak, length, warmup):
  """Vaswani et al. (2017, arXiv:1706.03762), scaled to the peak."""
  reach = max(warmup, 1)
  return lambda step: peak * jnp.sqrt(reach / jnp.maximum(step, reach))


DECAYS: Mapping[str, Decay] = {
  "constant": _constant,
  "linear": _linear,
  "polynomial": _polynomial,
  "cosine": _cosine,
  "exponential": _exponential,
  "inverse_sqrt": _inverse_sqrt,
}
