"""Evaluation while training: on examples of a corpus, or on records."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec

from bert_jax.data import loader
from bert_jax.tasks.data import EvalRecords, TrainingData
from bert_jax.tasks.task import Task
from bert_jax.training import inference
from bert_jax.training.mesh import meshes
from bert_jax.types import Batch, Mean, Parameters, add_means


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
    data: gives the evaluation data.
    mesh: where the parameters lie.
    batch_size: rows of a batch over all hosts.
    limit: the number of examples, or records, always the first ones; None for
      all.

  Raises:
    UserError: there are no evaluation data.
  """

  def step(params: Parameters, batch: Batch) -> tuple[Any, dict[str, Mean]]:
    outputs = task.module.apply({"params": params}, batch)
    return outputs, task.loss(outputs, batch) | task.metrics(outputs, batch)

  everywhere = NamedSharding(mesh, PartitionSpec())
  evaluation = data.evaluation()
  if isinstance(evaluation, EvalRecords):
    measure = jax.jit(step, out_shardings=everywhere)
    records = evaluation.records[:limit]
    examples = evaluation.examples[:limit]
    baselines = data.baselines(records)

    def evaluate_records(params: Parameters) -> Evaluated:
      measured = []

      def forward(batch: Batch) -> Any:
        with jax.set_mesh(mesh):
          outputs, found = measure(params, meshes.put_batch(batch, mesh))
        measured.append(found)
        return jax.device_get(outputs)

      predictions = inference.predict(
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


def means(measured: Iterable[Mapping[str, Mean]]) -> dict[str, float]:
  """Values by name, each divided once by its total weight."""
  totals = add_means(jax.device_get(list(measured)))
  return {name: float(mean.value()) for name, mean in totals.items()}
