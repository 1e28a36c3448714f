"""The runs of `benchmarks.finetune` with one seed: bert_jax and PyTorch."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks import runner
from bert_jax.data import grouping
from bert_jax.interop import huggingface
from bert_jax.settings import UserError
from bert_jax.tasks.data import EvalRecords, TrainingData
from bert_jax.tasks.task import Task
from bert_jax.training import logging, run, workdir
from bert_jax.training.recipe import (
  CheckpointConfig,
  EvaluationConfig,
  LoggingConfig,
  Recipe,
)
from bert_jax.types import Batch

_NEVER = 1 << 30
# The label that losses of Transformers ignore.
_IGNORED = -100


class Result(NamedTuple):
  """The result of one run.

  `rate` is in training examples per second.
  """

  loss_before: float
  loss_after: float
  metric: float
  rate: float
  compile_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
  """The work of both runs."""

  recipe: Recipe
  task: Task
  data: TrainingData
  metric: str
  batches: Sequence[Batch]
  eval: EvalRecords

  @property
  def shapes(self) -> int:
    """The number of batch shapes."""
    return len({batch.token_ids.shape for batch in self.batches})

  def rate(self, seconds: Sequence[float]) -> float:
    """Examples per second, from the seconds of each update.

    The updates before the first line of the log are a warm-up.
    """
    first = self.recipe.logging.every
    examples = sum(len(_rows(batch)) for batch in self.batches[first:])
    return examples / sum(seconds[first:])


def plan(config: Mapping[str, Any], seed: int, folder: pathlib.Path) -> Plan:
  """Saves the initial model of a seed, and makes all batches.

  `folder` is for the model, in the Hugging Face format.

  Raises:
    UserError: the config is invalid.
  """
  recipe = Recipe.from_dict({**config, "seed": seed})
  pretrained = workdir.open_model(recipe.init)
  task, _ = recipe.make_task(pretrained)
  params, _ = pretrained.params(task, seed=seed)
  huggingface.save(task, params, folder)

  begun = dataclasses.replace(recipe, init=str(folder))
  task, data = begun.make_task(workdir.open_model(folder))
  stream = data.training(recipe.batch_size, seed, None)
  steps = recipe.planned(stream.batches_per_epoch).steps
  if steps < 2:
    raise UserError(f"--epochs: {recipe.epochs} is a single update")
  begun = dataclasses.replace(
    begun,
    steps=steps,
    epochs=0.0,
    # Without a metric, the last step is evaluated instead of the best.
    evaluation=EvaluationConfig(every=_NEVER, examples=0),
    checkpoint=CheckpointConfig(every=_NEVER, keep=1),
    logging=LoggingConfig(every=max(1, steps // 10)),
  )
  rows = range(recipe.batch_size)
  return Plan(
    begun,
    task,
    data,
    recipe.evaluation.metric,
    [stream.batch(i, rows) for i in range(steps)],
    data.evaluation(),
  )


def ours(plan: Plan, workdir: pathlib.Path) -> Result:
  """Trains with `train_recipe`, and reads its log."""
  found = run.train_recipe(plan.recipe, workdir)
  before, *log = logging.read_metrics(workdir)
  assert before["split"] == "eval", "a part of the model is newly initialized"
  windows = [row for row in log if row["split"] == "train"]
  seconds: list[float] = []
  for row in windows:
    steps = row["step"] - len(seconds)
    seconds += [1 / row["steps_per_second"]] * steps
  # Steps per second do not include compilation; `seconds` does.
  compiling = windows[-1]["seconds"] - before["seconds"] - sum(seconds)
  return Result(
    before["loss"],
    found["loss"],
    found[plan.metric],
    plan.rate(seconds),
    compiling,
  )


def theirs(
  plan: Plan, folder: pathlib.Path, peer: str, threads: int
) -> tuple[Result, dict[str, str]]:
  """Trains with PyTorch in a new process, and evaluates its outputs as ours.

  The job file is written to `folder`.

  Returns:
    The result, and the versions of its packages.
  """
  recipe, optimizer = plan.recipe, plan.recipe.optimizer
  warmup = round(optimizer.schedule.warmup_fraction * recipe.steps)
  job = {
    "model": recipe.init,
    "seed": recipe.seed,
    "threads": threads,
    "batch_size": recipe.batch_size,
    "batches": [_rows(batch) for batch in plan.batches],
    "eval": [_row(x) for made in plan.eval.examples for x in made],
    "optimizer": {**dataclasses.asdict(optimizer), "warmup_steps": warmup},
  }
  path = folder / "job.json"
  path.write_text(json.dumps(job))
  found = runner.json_of(peer, "benchmarks.finetune_torch", str(path))
  result = Result(
    found["loss_before"],
    found["loss_after"],
    _metric(plan, found["logits"]),
    plan.rate(found["seconds"]),
  )
  return result, found["versions"]


def _rows(batch: Batch) -> list[dict[str, Any]]:
  """The rows of a batch without padding, and without rows of padding."""
  rows = (
    _row(jax.tree.map(lambda x, n=n: x[n], batch))
    for n in range(len(batch.token_ids))
  )
  return [row for row in rows if row["token_ids"]]


def _row(example: Batch) -> dict[str, Any]:
  targets, length = example.targets, int((example.sequence_ids > 0).sum())
  # The only target has labels: `label/labels`, or `tags/labels` for words.
  ids, weights = (
    next(x for key, x in targets.items() if key.endswith(f"/{name}"))
    for name in ("labels", "weights")
  )
  labels = np.where(weights > 0, ids, _IGNORED)
  return {
    "token_ids": example.token_ids[:length].tolist(),
    "segment_ids": example.segment_ids[:length].tolist(),
    "labels": (labels[:length] if labels.ndim else labels).tolist(),
  }


def _metric(plan: Plan, logits: Sequence[Any]) -> float:
  """The metric of these logits."""
  task, rest = plan.task, iter(logits)
  predictions = []
  for record, made in zip(plan.eval.records, plan.eval.examples):
    parts = []
    for example in made:
      batch = grouping.pad([example], task.axes, 1, lambda length: length)
      (head,) = task.head_names.values()
      outputs = {head: np.array([next(rest)], np.float32)}
      options = task.evaluation_options
      parts += task.predict(outputs, batch, [record], **options)
    predictions.append(task.merge(record, parts))
  return task.evaluate(plan.eval.records, predictions)[plan.metric]
