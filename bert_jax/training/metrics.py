"""Metrics of training: means and throughput between two logs, baselines."""

import collections
import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Self

import jax

from bert_jax.models import flops
from bert_jax.settings import UserError
from bert_jax.tasks.data import TrainingData
from bert_jax.tasks.task import Task
from bert_jax.types import Mean, add_means

# The number of updates that the host may dispatch ahead of the device.
_AHEAD = 2

# In multi-task training the name of the task comes first, and with several
# values the name of the value comes last: `quality/rmse_errors`.
_LOWER_IS_BETTER = re.compile(r"(.*/)?(.*loss|perplexity|(rmse|mae)(_.*)?)")
_BASELINE = "_baseline"


class DivergedError(UserError):
  """The loss or gradients are not finite, or too many updates were skipped."""


class Meter:
  """Collects the means of updates without waiting for the newest ones."""

  def __init__(
    self,
    flops_per_token: float = 0.0,
    peak_flops: float | None = None,
    learning_rate: Callable[[float], float] | None = None,
    max_skipped: int = 1,
  ):
    """Starts empty.

    Args:
      flops_per_token: the cost of training per position of a row.
      peak_flops: of all devices together, in FLOP/s; None if unknown.
      learning_rate: the schedule, a function of the number of updates done,
        or of the clock; None logs no learning rate.
      max_skipped: the number of skipped updates in a row that ends a run.
    """
    self._flops_per_token = flops_per_token
    self._peak = peak_flops
    self._learning_rate = learning_rate
    self._max_skipped = max_skipped
    self._means: collections.deque[dict[str, Mean]] = collections.deque()
    self._done: dict[str, Mean] | None = None
    self._seconds = 0.0
    self._resumed = time.perf_counter()

  @classmethod
  def of(
    cls,
    task: Task,
    data: TrainingData,
    learning_rate: Callable[[float], float] | None = None,
    max_skipped: int = 1,
  ) -> Self:
    """The meter of a task on the devices of all processes."""
    peak = flops.peak_flops(jax.devices()[0].device_kind)
    cost = flops.training_flops_per_token(
      task.config, data.max_length, data.predictions
    )
    peak = peak and peak * jax.device_count()
    return cls(cost, peak, learning_rate, max_skipped)

  def add(self, means: dict[str, Mean]) -> dict[str, Mean] | None:
    """Adds an update, and waits until all but the newest updates are done.

    Returns:
      The means of the newest update that is done, the same on all processes;
      None if there is none.
    """
    self._means.append(means)
    if len(self._means) > _AHEAD:
      self._done = jax.block_until_ready(self._means[-1 - _AHEAD])
    return self._done

  def pause(self) -> None:
    """Waits for the updates and stops the clock."""
    jax.block_until_ready(list(self._means))
    self._seconds += time.perf_counter() - self._resumed

  def resume(self) -> None:
    """Starts the clock again."""
    self._resumed = time.perf_counter()

  def means(self, step: int) -> dict[str, float]:
    """The values of all updates since the last call; resets the meter.

    To be called while the clock is stopped, after `step` updates.

    Returns:
      The means by name (of nothing but skipped updates, none that is not
      finite), the number of skipped updates if there were any, the learning
      rate of the last update, updates and non-padding tokens per
      second, `packing_efficiency` (the share of positions that hold tokens),
      and MFU where the peak of the device is known.

    Raises:
      DivergedError: a value is not finite, or too many updates in a row were
        skipped.
    """
    steps, seconds = len(self._means), self._seconds
    found = jax.device_get(list(self._means))
    in_a_row = max(m.pop("skipped_in_a_row").total for m in found)
    clocks = [m.pop("clock").total for m in found if "clock" in m]
    values = means(found)
    check_finite(values, step, in_a_row, self._max_skipped)
    if share := values.pop("skipped_updates"):
      values["skipped_updates"] = round(share * steps)
    if self._learning_rate is not None:
      at = float(clocks[-1]) if clocks else step - 1
      values["learning_rate"] = float(self._learning_rate(at))
    tokens = values.pop("non_padding_tokens") * steps
    positions = values.pop("positions") * steps
    values["steps_per_second"] = steps / seconds
    values["non_padding_tokens_per_second"] = tokens / seconds
    values["packing_efficiency"] = tokens / positions
    if self._peak:
      work = positions * self._flops_per_token
      values["mfu"] = work / seconds / self._peak
    self._done = self._means[-1]
    self._means.clear()
    self._seconds = 0.0
    return values


def means(measured: Iterable[Mapping[str, Mean]]) -> dict[str, float]:
  """Values by name, each divided once by its total weight.

  Those of weight 0 are left out: there is nothing to average.
  """
  totals = add_means(jax.device_get(list(measured)))
  return {
    name: float(mean.value())
    for name, mean in totals.items()
    if float(mean.weight)
  }


def check_finite(
  values: Mapping[str, float], step: int, skipped: int = 0, max_skipped: int = 1
) -> None:
  """Checks that training has not diverged after `step` updates.

  Raises:
    DivergedError: a value is not finite, or `max_skipped` updates in a row
      were skipped.
  """
  wrong = [name for name, value in values.items() if not math.isfinite(value)]
  if wrong:
    reason = f"{', '.join(wrong)} is not finite"
  elif skipped >= max_skipped:
    reason = (
      f"{skipped} updates in a row were skipped (config.guard), since their"
      " gradients were not finite or too large"
    )
  else:
    return
  raise DivergedError(
    f"{reason} at step {step}; the last checkpoint is good: try a lower"
    " config.optimizer.learning_rate or a longer warm-up in another --workdir"
  )


def is_better(metric: str, value: float, than: float) -> bool:
  """Whether a value is better; of losses and errors the lower one is."""
  if _LOWER_IS_BETTER.fullmatch(metric):
    return value < than
  return value > than


def without_baselines(names: Iterable[str]) -> list[str]:
  """The names that are not of baselines, `accuracy_majority_baseline`."""
  return [name for name in names if not name.endswith(_BASELINE)]


def baselines_of(metric: str, values: Mapping[str, float]) -> dict[str, float]:
  """The baselines of a metric by kind: what the best constant answer gets.

  Args:
    metric: its name, as `accuracy`.
    values: metrics and baselines by name; `accuracy_majority_baseline` is the
      baseline of `accuracy` of the kind `majority`.
  """
  known = without_baselines(values)
  found = {}
  for name, value in values.items():
    if not name.endswith(_BASELINE):
      continue
    stem = name.removesuffix(_BASELINE)
    # The longest name that fits: there may be `rmse` and `rmse_mean`.
    owners = [other for other in known if stem.startswith(f"{other}_")]
    if owners and max(owners, key=len) == metric:
      found[stem.removeprefix(f"{metric}_")] = value
  return found
