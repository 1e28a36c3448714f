"""Measures on held-out examples, and on the answers to held-out records."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
from jax.sharding import NamedSharding, PartitionSpec

from bert_jax.data import loader
from bert_jax.tasks import answering
from bert_jax.tasks.task import HeldOut, Task
from bert_jax.training import step
from bert_jax.training.mesh import meshes
from bert_jax.training.step import Measures
from bert_jax.types import Batch, Parameters, add_means


class Found(NamedTuple):
  """What an evaluation found.

  Attributes:
    values: measures by name.
    head: the task's head with what was tuned on these answers.
  """

  values: dict[str, float]
  head: Any


Evaluate = Callable[[Parameters], Found]


def make(
  task: Task, mesh: jax.sharding.Mesh, batch_size: int, limit: int | None
) -> Evaluate:
  """A function that measures parameters on the task's held-out data.

  Args:
    task: with data.
    mesh: where the parameters lie.
    batch_size: rows of a batch over all hosts.
    limit: at most so many held-out examples, or records; None for all.

  Raises:
    UserError: there is nothing to measure on.
  """
  held_out = task.data.evaluation()
  if task.score is not None:
    return _of_answers(task, mesh, batch_size, held_out, limit)
  # Every process draws all of them, for the baselines.
  batches = list(loader.evaluation_batches(held_out, batch_size, limit))
  everywhere = NamedSharding(mesh, PartitionSpec())
  measure = jax.jit(step.make_evaluation_step(task), out_shardings=everywhere)
  baselines = task.data.baselines(batches)

  def evaluate(params: Parameters) -> Found:
    put = (meshes.put_batch(batch, mesh) for batch in batches)
    with jax.set_mesh(mesh):
      found = means(measure(params, batch) for batch in put)
    return Found(found | baselines, task.head)

  return evaluate


def means(measures: Iterable[Measures]) -> dict[str, float]:
  """Values by name, each divided once by its total weight."""
  totals = add_means(jax.device_get(list(measures)))
  return {name: float(mean.value()) for name, mean in totals.items()}


def _of_answers(
  task: Task,
  mesh: jax.sharding.Mesh,
  batch_size: int,
  held_out: HeldOut,
  limit: int | None,
) -> Evaluate:
  """Losses, and the scores of the answers that people would get."""
  records = held_out.records[:limit]
  examples = held_out.examples[:limit]
  baselines = task.data.baselines(records)
  everywhere = NamedSharding(mesh, PartitionSpec())
  measure = jax.jit(
    step.make_evaluation_step(task, with_outputs=True),
    out_shardings=everywhere,
  )

  def evaluate(params: Parameters) -> Found:
    measures = []

    def forward(batch: Batch) -> Any:
      with jax.set_mesh(mesh):
        outputs, found = measure(params, meshes.put_batch(batch, mesh))
      measures.append(found)
      return jax.device_get(outputs)

    answers = answering.answers(
      task,
      records,
      examples,
      forward,
      batch_size,
      lengths=held_out.lengths,
      **task.scoring,
    )
    head = task.tune(answers, records) if task.tune else task.head
    scores = task.score(head, answers, records)
    return Found(means(measures) | scores | baselines, head)

  return evaluate
