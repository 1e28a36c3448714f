"""What the two sides of `benchmarks.finetune` do with one seed."""

import dataclasses
import json
import pathlib
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

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

_ROOT = pathlib.Path(__file__).parents[1]
_NEVER = 1 << 30
# What Transformers' losses leave out.
_IGNORED = -100


class Side(NamedTuple):
  """What one side did.

  Attributes:
    loss_before: held-out, with the weights that training begins with.
    loss_after: held-out, at the end.
    score: of the answers to the held-out records.
    rate: training examples a second.
    compile_seconds: what compiling the updates took.
  """

  loss_before: float
  loss_after: float
  score: float
  rate: float
  compile_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
  """What both sides do.

  Attributes:
    recipe: with the number of steps.
    task: of the model that training begins with.
    data: its training data.
    metric: the name of the score.
    batches: of all updates.
    held_out: what the model is measured on.
  """

  recipe: Recipe
  task: Task
  data: TrainingData
  metric: str
  batches: Sequence[Batch]
  held_out: EvalRecords

  @property
  def shapes(self) -> int:
    """How many shapes are compiled for."""
    return len({batch.token_ids.shape for batch in self.batches})

  def rate(self, seconds: Sequence[float]) -> float:
    """Examples a second, from the seconds of each update.

    The updates before the first line of the log only warm up.
    """
    first = self.recipe.logging.every
    examples = sum(len(_rows(batch)) for batch in self.batches[first:])
    return examples / sum(seconds[first:])


def plan(config: Mapping[str, Any], seed: int, folder: pathlib.Path) -> Plan:
  """Saves the model that a seed begins with, and draws all batches.

  Args:
    config: a recipe's; its evaluation says what the score is.
    seed: of the fresh head, the order and dropout.
    folder: for the model, in Hugging Face's form.

  Raises:
    UserError: something in the config is wrong.
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
    # Without a metric to tell the best by, the last step counts.
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


def ours(plan: Plan, workdir: pathlib.Path) -> Side:
  """Trains in the loop that everybody uses, and reads what it logged."""
  found = run.train_recipe(plan.recipe, workdir)
  loss = "loss"
  before, *log = logging.read_metrics(workdir)
  assert before["split"] == "eval", "some of the model began anew"
  windows = [row for row in log if row["split"] == "train"]
  seconds: list[float] = []
  for row in windows:
    steps = row["step"] - len(seconds)
    seconds += [1 / row["steps_per_second"]] * steps
  # The clock of updates stands still while one is compiled.
  compiling = windows[-1]["seconds"] - before["seconds"] - sum(seconds)
  return Side(
    before[loss],
    found[loss],
    found[plan.metric],
    plan.rate(seconds),
    compiling,
  )


def theirs(
  plan: Plan, folder: pathlib.Path, peer: str, threads: int
) -> tuple[Side, dict[str, str]]:
  """Trains in a new process, and scores its outputs as ours are scored.

  Args:
    plan: what to do.
    folder: for what is handed over.
    peer: the Python program.
    threads: of PyTorch.

  Returns:
    What it did, and the versions of its packages.
  """
  recipe, optimizer = plan.recipe, plan.recipe.optimizer
  warmup = round(optimizer.schedule.warmup_fraction * recipe.steps)
  job = {
    "model": recipe.init,
    "seed": recipe.seed,
    "threads": threads,
    "batch_size": recipe.batch_size,
    "batches": [_rows(batch) for batch in plan.batches],
    "held_out": [_row(x) for made in plan.held_out.examples for x in made],
    "optimizer": {**dataclasses.asdict(optimizer), "warmup_steps": warmup},
  }
  path = folder / "job.json"
  path.write_text(json.dumps(job))
  ran = subprocess.run(
    [peer, "-m", "benchmarks.finetune_peer", str(path)],
    cwd=_ROOT,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  found = json.loads(ran.stdout.splitlines()[-1])
  side = Side(
    found["loss_before"],
    found["loss_after"],
    _score(plan, found["logits"]),
    plan.rate(found["seconds"]),
  )
  return side, found["versions"]


def _rows(batch: Batch) -> list[dict[str, Any]]:
  """A batch's rows without the padding, and without those of padding only."""
  rows = (
    _row(jax.tree.map(lambda x, n=n: x[n], batch))
    for n in range(len(batch.token_ids))
  )
  return [row for row in rows if row["token_ids"]]


def _row(example: Batch) -> dict[str, Any]:
  targets, length = example.targets, int((example.sequence_ids > 0).sum())
  # The only target has labels: `label/labels`, or `tags/labels` of words.
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


def _score(plan: Plan, logits: Sequence[Any]) -> float:
  """The score of the answers that these outputs give."""
  task, held_out, rest = plan.task, plan.held_out, iter(logits)
  predictions = []
  for record, made in zip(held_out.records, held_out.examples):
    parts = []
    for example in made:
      batch = grouping.pad([example], task.axes, 1, lambda length: length)
      (head,) = task.head_names.values()
      outputs = {head: np.array([next(rest)], np.float32)}
      options = task.evaluation_options
      parts += task.predict(outputs, batch, [record], **options)
    predictions.append(task.merge(record, parts))
  return task.evaluate(held_out.records, predictions)[plan.metric]
