"""The best evaluation so far, by one measure, and when to stop waiting."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from bert_jax import settings

# Of several tasks a measure bears the name of its task, of several values the
# name of its value: `quality/rmse_errors`.
_LESS_IS_BETTER = re.compile(r"(.*/)?(.*loss|(rmse|mae)(_.*)?)")


def is_better(metric: str, value: float, than: float) -> bool:
  """Whether a measure is better; of losses and errors the lower one is."""
  if _LESS_IS_BETTER.fullmatch(metric):
    return value < than
  return value > than


@dataclasses.dataclass
class Best:
  """Follows a measure from evaluation to evaluation.

  Attributes:
    metric: its name; empty to follow none.
    patience: evaluations without a better value after which to stop; 0 never
      stops.
    target: the value at which to stop; None never stops.
    step: that of the best evaluation, None before the first.
    values: all that was measured there.
    waited: evaluations since.
  """

  metric: str
  patience: int = 0
  target: float | None = None
  step: int | None = None
  values: Mapping[str, float] = dataclasses.field(default_factory=dict)
  waited: int = 0

  def check(self, values: Mapping[str, float]) -> None:
    """Refuses a measure that is not among the values.

    Raises:
      UserError: it is not.
    """
    if self.metric:
      settings.choice("config.evaluation.metric", self.metric, values)

  def see(self, step: int, values: Mapping[str, float]) -> bool:
    """Takes note of an evaluation, and tells whether it is the best so far.

    Raises:
      UserError: the measure is not among the values.
    """
    if not self.metric:
      return False
    self.check(values)
    value = values[self.metric]
    before = self.values.get(self.metric, math.nan)
    if math.isnan(before) or is_better(self.metric, value, before):
      self.step, self.values, self.waited = step, dict(values), 0
      return True
    self.waited += 1
    return False

  @property
  def is_over(self) -> bool:
    """Whether to stop: see `why_over`."""
    return self.why_over is not None

  @property
  def why_over(self) -> str | None:
    """Why to stop: the target is reached, or nothing better came for long."""
    value = self.values.get(self.metric, math.nan)
    if (
      self.target is not None
      and not math.isnan(value)
      and not is_better(self.metric, self.target, value)
    ):
      return f"{self.metric} reached {self.target:g} at step {self.step}"
    if 0 < self.patience <= self.waited:
      return (
        f"no better {self.metric} than at step {self.step} in {self.waited}"
        " evaluations"
      )
    return None

  def state(self) -> dict[str, Any]:
    """What `resume` takes, for JSON."""
    return {"step": self.step, "values": self.values, "waited": self.waited}

  def resume(self, state: Mapping[str, Any] | None) -> None:
    """Goes on from where a checkpoint's `state` was, if it has the measure."""
    if state and self.metric in state["values"]:
      self.step, self.values = state["step"], state["values"]
      self.waited = state["waited"]
