"""Evaluation while training, and early stopping by its metrics."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec

from bert_jax import predictor, settings
from bert_jax.data import loader
from bert_jax.tasks.data import EvalRecords, TrainingData
from bert_jax.tasks.task import Task
from bert_jax.training.mesh import meshes
from bert_jax.training.metrics import is_better, means
from bert_jax.types import Batch, Mean, Parameters


class Evaluated(NamedTuple):
  """The result of an evaluation.

  Attributes:
    values: metrics, losses and baselines by name.
    task: the task with what was tuned on these records, such as thresholds.
  """

  values: dict[str, float]
  task: Task


Evaluate = Callable[[Parameters], Evaluated]


def make(
  task: Task,
  data: TrainingData,
  mesh: jax.sharding.Mesh,
  batch_size: int,
  limit: int | None,
) -> Evaluate:
  """A function that evaluates parameters on the task's evaluation data.

  Args:
    task: bound to its encoder.
    data: of the task.
    mesh: where the parameters lie.
    batch_size: rows of a batch over all hosts.
    limit: the number of examples, or records, that are drawn from the
      evaluation data, always the same ones; None for all.

  Raises:
    UserError: there are no evaluation data.
  """

  def step(params: Parameters, batch: Batch) -> tuple[Any, dict[str, Mean]]:
    outputs = task.module.apply({"params": params}, batch)
    means = task.loss(outputs, batch) | task.metrics(outputs, batch)
    return task.measured(outputs, batch), means

  everywhere = NamedSharding(mesh, PartitionSpec())
  evaluation = data.evaluation()
  if isinstance(evaluation, EvalRecords):
    measure = jax.jit(step, out_shardings=everywhere)
    sample = evaluation.sample(limit)
    records, examples = sample.records, sample.examples
    baselines = data.baselines(records) | task.corpus_baselines(
      itertools.chain.from_iterable(examples)
    )

    def evaluate_records(params: Parameters) -> Evaluated:
      measured = []

      def forward(batch: Batch) -> Any:
        with jax.set_mesh(mesh):
          outputs, found = measure(params, meshes.put_batch(batch, mesh))
        measured.append(found)
        return jax.device_get(outputs)

      predictions = predictor.predict(
        task,
        forward,
        records,
        examples,
        batch_size,
        evaluation.length_buckets,
        **task.evaluation_options,
      )
      tuned = task.tune(records, predictions)
      metrics = tuned.evaluate(records, predictions)
      return Evaluated(means(measured) | metrics | baselines, tuned)

    return evaluate_records

  # Every process reads all of them, for the baselines.
  batches = list(loader.evaluation_batches(evaluation, batch_size, limit))
  measure = jax.jit(lambda *args: step(*args)[1], out_shardings=everywhere)
  baselines = data.baselines(batches)

  def evaluate_batches(params: Parameters) -> Evaluated:
    put = (meshes.put_batch(batch, mesh) for batch in batches)
    with jax.set_mesh(mesh):
      found = means(measure(params, batch) for batch in put)
    return Evaluated(found | baselines, task)

  return evaluate_batches


@dataclasses.dataclass
class EarlyStopping:
  """Follows a metric from evaluation to evaluation.

  Attributes:
    metric: its name; empty to follow none.
    patience: the number of evaluations without a better value after which to
      stop; 0 never stops.
    target: the value at which to stop; None never stops.
    first: the first step whose evaluation counts.
    step: the step of the best evaluation; None before the first.
    values: all metrics of the best evaluation.
    waited: the number of evaluations since.
  """

  metric: str = ""
  patience: int = 0
  target: float | None = None
  first: int = 0
  step: int | None = None
  values: Mapping[str, float] = dataclasses.field(default_factory=dict)
  waited: int = 0

  def check(self, values: Mapping[str, float]) -> None:
    """Raises UserError if the metric is not among the values."""
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
    if step < self.first:
      return False
    value = values[self.metric]
    before = self.values.get(self.metric, math.nan)
    if math.isnan(before) or is_better(self.metric, value, before):
      self.step, self.values, self.waited = step, dict(values), 0
      return True
    self.waited += 1
    return False

  @property
  def reason(self) -> str | None:
    """Why to stop: the target or the patience; None while there is none."""
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
