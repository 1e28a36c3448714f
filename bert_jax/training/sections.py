"""The sections of a recipe that say what happens when."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """The section `config.evaluation`.

  Attributes:
    every: steps between evaluations, 0 for one an epoch; there is always one
      at the end.
    examples: how many held-out rows, or records, to look at, always the
      first ones; 0 for all.
    batch_size: rows of a batch; 0 takes the training batch size.
    metric: the measure by which the best checkpoint is kept, and used once
      the run has ended; empty to use the last.
    patience: stop after so many evaluations without a better value of
      `metric`; 0 never does.
    target: stop once `metric` is as good as that; None never does.
  """

  every: int = 1000
  examples: int = 2048
  batch_size: int = 0
  metric: str = ""
  patience: int = 0
  target: float | None = None

  def __post_init__(self):
    if self.patience < 0:
      raise ValueError(f"patience: expected at least 0, got {self.patience}")
    if (self.patience or self.target is not None) and not self.metric:
      raise ValueError("metric: missing; patience and target ask for one")


@dataclasses.dataclass(frozen=True)
class Checkpointing:
  """The section `config.checkpoint`.

  Attributes:
    every: steps between checkpoints, 0 for one an epoch; there is always one
      at the end.
    keep: how many to keep.
  """

  every: int = 1000
  keep: int = 3


@dataclasses.dataclass(frozen=True)
class Logging:
  """The section `config.logging`.

  Attributes:
    every: steps between lines.
  """

  every: int = 100
