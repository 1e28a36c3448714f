"""The figures of the steps since the last line of the log."""

import collections
import math
import time
from collections.abc import Callable, Mapping

import jax

from bert_jax.settings import UserError
from bert_jax.training.step import Measures
from bert_jax.types import add_means

# Steps that may be under way on the device while the host goes ahead. The
# host waits for older ones, so that it never queues up work without bound.
_AHEAD = 2


class DivergedError(UserError):
  """Losses or gradients are no longer finite, or spike after spike."""


class Window:
  """Collects the measures of steps without waiting for the newest ones."""

  def __init__(
    self,
    learning_rate: Callable[[float], float],
    flops_per_token: float,
    peak_flops: float | None,
    max_skipped: int,
  ):
    """Starts an empty window.

    Args:
      learning_rate: the rate of an update by its number, from 0, or by its
        clock.
      flops_per_token: what training costs for each position of a row.
      peak_flops: of all devices together, in FLOP/s; None if not known.
      max_skipped: so many skipped updates in a row are too many.
    """
    self._learning_rate = learning_rate
    self._flops_per_token = flops_per_token
    self._peak = peak_flops
    self._max_skipped = max_skipped
    self._measures: collections.deque[Measures] = collections.deque()
    self._seconds = 0.0
    self._resumed = time.perf_counter()

  def add(self, measures: Measures) -> Measures | None:
    """Adds a step, and waits until all but the newest steps are done.

    Returns:
      The measures of the last of these, the same on all processes.
    """
    self._measures.append(measures)
    if len(self._measures) <= _AHEAD:
      return None
    return jax.block_until_ready(self._measures[-1 - _AHEAD])

  def pause(self) -> None:
    """Waits for the steps and stops the clock, for what is not training."""
    jax.block_until_ready(list(self._measures))
    self._seconds += time.perf_counter() - self._resumed

  def resume(self) -> None:
    """Starts the clock again."""
    self._resumed = time.perf_counter()

  def close(self, step: int) -> Mapping[str, float]:
    """The figures of all steps added, and an empty window again.

    To be called while the clock is stopped.

    Args:
      step: the number of updates done.

    Returns:
      The means of all measures, the number of skipped updates if there were
      any, the learning rate of the last update, non-padding tokens per second,
      `packing_efficiency` (the share of the rows' positions that hold them),
      and MFU where the device's peak is known.

    Raises:
      DivergedError: a figure is not finite, or too many updates in a row were
        skipped.
    """
    steps = len(self._measures)
    measures = jax.device_get(list(self._measures))
    in_a_row = max(m.pop("skipped_in_a_row").total for m in measures)
    clocks = [m.pop("clock").total for m in measures if "clock" in m]
    totals = add_means(measures)
    values = {name: float(mean.value()) for name, mean in totals.items()}
    check(values, step, in_a_row, self._max_skipped)
    if share := values.pop("skipped_updates"):
      values["skipped_updates"] = round(share * steps)
    at = float(clocks[-1]) if clocks else step - 1
    values["learning_rate"] = float(self._learning_rate(at))
    seconds, tokens = self._seconds, values.pop("non_padding_tokens") * steps
    positions = values.pop("positions") * steps
    values["steps_per_second"] = steps / seconds
    values["non_padding_tokens_per_second"] = tokens / seconds
    values["packing_efficiency"] = tokens / positions
    if self._peak:
      work = positions * self._flops_per_token
      values["mfu"] = work / seconds / self._peak
    self._measures.clear()
    self._seconds = 0.0
    return values


def check(
  values: Mapping[str, float], step: int, in_a_row: int = 0, most: int = 1
) -> None:
  """Ends a run whose figures show that it has diverged.

  Args:
    values: figures that should be finite.
    step: the number of updates done.
    in_a_row: the most updates that were skipped one after the other.
    most: so many are too many.

  Raises:
    DivergedError: it has.
  """
  wrong = [name for name, value in values.items() if not math.isfinite(value)]
  if wrong:
    what = f"{', '.join(wrong)} is not finite"
  elif in_a_row >= most:
    what = (
      f"{in_a_row} updates in a row were skipped (config.guard), since their"
      " gradients were not finite or too large"
    )
  else:
    return
  raise DivergedError(
    f"{what} at step {step}; the last checkpoint is good: try a lower"
    " config.optimizer.learning_rate or a longer warm-up in another --workdir"
  )
