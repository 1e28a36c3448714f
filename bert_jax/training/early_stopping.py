"""The best evaluation so far by one metric, and when to stop."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from bert_jax import settings
from bert_jax.training.metrics import is_better


@dataclasses.dataclass
class EarlyStopping:
  """Follows a metric from evaluation to evaluation.

  Attributes:
    metric: its name; empty to follow none.
    patience: the number of evaluations without a better value after which to
      stop; 0 never stops.
    target: the value at which to stop; None never stops.
    step: the step of the best evaluation; None before the first.
    values: all metrics of the best evaluation.
    waited: the number of evaluations since.
  """

  metric: str = ""
  patience: int = 0
  target: float | None = None
  step: int | None = None
  values: Mapping[str, float] = dataclasses.field(default_factory=dict)
  waited: int = 0

  def check(self, values: Mapping[str, float]) -> None:
    """Checks that the metric is among the values.

    Raises:
      UserError: it is not.
    """
    if self.metric:
      settings.choice("config.evaluation.metric", self.metric, values)

  def update(self, step: int, values: Mapping[str, float]) -> bool:
    """Records an evaluation; True if it is the best so far.

    Raises:
      UserError: the metric is not among the values.
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
  def should_stop(self) -> bool:
    """Whether the target is reached or the patience is over."""
    return self.reason is not None

  @property
  def reason(self) -> str | None:
    """The reason to stop, None while there is none."""
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
    """The state that `resume` takes, as JSON values."""
    return {"step": self.step, "values": self.values, "waited": self.waited}

  def resume(self, state: Mapping[str, Any] | None) -> None:
    """Restores a checkpoint's `state`, if it has values of the metric."""
    if state and self.metric in state["values"]:
      self.step, self.values = state["step"], state["values"]
      self.waited = state["waited"]
