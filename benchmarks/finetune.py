"""Compares fine-tuning with PyTorch Transformers: metrics and speed.

  ./launch/parity.sh text   # Once, for the environment of the peer.
  python -m benchmarks.finetune MODEL --train FILE --eval FILE
    [--task classification] [--data header=false] [--seeds 3] [--limit 200]

The recipe is `configs/finetune/TASK.py`, except that the learning rate decays
from the end of the warm-up, as in Transformers, and that the last step is
evaluated instead of the best. For each seed, MODEL gets a newly initialized
head, unless it has one for these labels, and is saved in the Hugging Face
format, from which both start: equal evaluation losses before training show that
the models are equal. Both train on the same rows in the same batches and order,
padded to a length bucket here and to the longest row of the batch there. Only
dropout differs; with `--dropout 0` both end with the same loss (DistilBERT
keeps the dropout of its head). They run in turn, seed by seed, on the same
cores.

Examples per second are those of updates, without compilation, after the first
tenth of the steps. They mean little if other programs use the cores; the title
has the load. Writes benchmarks/results/finetune.json.
"""

import argparse
import dataclasses
import importlib
import json
import os
import pathlib
import platform
import random
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import rich
from rich.table import Table

from benchmarks import runner
from bert_jax import settings
from bert_jax.data import grouping
from bert_jax.interop import huggingface
from bert_jax.settings import UserError
from bert_jax.tasks import LABELLED, TASKS, labelled
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
from launch import process

_RESULTS = runner.RESULTS / "finetune.json"
_PEER = runner.ROOT / ".venv-parity" / "bin" / "python"
_TASKS = ("classification", "tagging")
# The relative difference up to which the losses of one model count as equal.
_TOLERANCE = 1e-5
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


def make_plan(
  config: Mapping[str, Any], seed: int, folder: pathlib.Path
) -> Plan:
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

  The job file is written to `folder`. Returns the versions of packages too.
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


def base_config(
  arguments: argparse.Namespace, folder: pathlib.Path
) -> dict[str, Any]:
  """The recipe of all seeds; copies its records to the folder."""
  module = importlib.import_module(f"configs.finetune.{arguments.task}")
  config = module.get_config().to_dict()
  for name in ("epochs", "batch_size"):
    config[name] = getattr(arguments, name) or config[name]
  if arguments.learning_rate:
    config["optimizer"]["learning_rate"] = arguments.learning_rate
  config["optimizer"]["schedule"]["decay_from_start"] = False
  config["init"] = arguments.model
  config["model"] = {
    "hidden_dropout": arguments.dropout,
    "attention_dropout": arguments.dropout,
  }
  data = config["data"] | dict(arguments.data)
  data |= {"train": [arguments.train], "eval": [arguments.eval]}
  config["data"] = copied(arguments.task, data, arguments.limit, folder)
  return config


def copied(
  task: str, data: Mapping[str, Any], limit: int, folder: pathlib.Path
) -> dict[str, Any]:
  """`config.data` with copies of the records, at most `limit` per split."""
  read = settings.from_dict(LABELLED[task], data, "config.data")
  paths = {}
  for split in ("train", "eval"):
    rows = labelled.read_split(read, TASKS[task], split).rows
    if 0 < limit < len(rows):
      rows = random.Random(0).sample(rows, limit)
    path = folder / f"{split}.jsonl"
    lines = (json.dumps(dict(row.record)) + "\n" for row in rows)
    path.write_text("".join(lines))
    paths[split] = [str(path)]
  return {**data, **paths, "format": "jsonl", "columns": {}, "dataset": ""}


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
  """Runs both, seed by seed."""
  runs: dict[str, list[Result]] = {"ours": [], "theirs": []}
  load = os.getloadavg()[0]
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    config = base_config(arguments, folder)
    for seed in range(arguments.seeds):
      own = folder / f"seed_{seed}"
      plan = make_plan(config, seed, own / "model")
      runs["ours"].append(ours(plan, own / "run"))
      found, versions = theirs(plan, own, arguments.peer, arguments.threads)
      runs["theirs"].append(found)
      shutil.rmtree(own)  # Each seed has the weights several times.
  data = plan.data
  return {
    "machine": platform.platform(),
    "versions": {"jax": jax.__version__, **versions},
    "load": load,
    "arguments": vars(arguments),
    "notes": data.notes,
    "steps": plan.recipe.steps,
    "shapes": plan.shapes,
    "metric": plan.metric,
    "runs": {
      name: [x._asdict() for x in results] for name, results in runs.items()
    },
  }


def _column(results: Mapping[str, Any], name: str) -> tuple[list[float], ...]:
  """A field of the results of all seeds, ours and theirs."""
  return tuple(
    [run[name] for run in results["runs"][key]] for key in ("ours", "theirs")
  )


def _spread(values: Sequence[float]) -> float:
  return statistics.stdev(values) if len(values) > 1 else 0.0


def _apart(ours: Sequence[float], theirs: Sequence[float]) -> str:
  """The difference of two means, in pooled standard deviations."""
  gap = abs(statistics.mean(ours) - statistics.mean(theirs))
  pooled = statistics.mean([_spread(ours) ** 2, _spread(theirs) ** 2]) ** 0.5
  if not pooled:
    return f"{gap:.4f} apart"
  within = "yes" if gap <= pooled else "NO"
  return f"within one std: {within} ({gap / pooled:.2f})"


def _title(results: Mapping[str, Any]) -> str:
  arguments, versions = results["arguments"], results["versions"]
  packages = ", ".join(f"{name} {x}" for name, x in versions.items())
  return (
    f"{arguments['task']}, {results['steps']} updates, seeds:"
    f" {arguments['seeds']} (mean ± std; speed: median, range); {packages};"
    f" load before: {results['load']:.1f}"
  )


def print_results(results: Mapping[str, Any]) -> None:
  """Prints the table."""
  table = Table(
    "", "bert_jax", "Transformers", "compared", title=_title(results)
  )
  before = _column(results, "loss_before")
  worst = max(abs(a - b) / b for a, b in zip(*before))
  table.add_row(
    "loss before",
    *(f"{statistics.mean(values):.6f}" for values in before),
    f"one model: {'yes' if worst <= _TOLERANCE else 'NO'} ({worst:.0e} apart)",
  )
  for label, name in ((results["metric"], "metric"), ("loss", "loss_after")):
    columns = _column(results, name)
    table.add_row(
      label,
      *(f"{statistics.mean(x):.4f} ± {_spread(x):.4f}" for x in columns),
      _apart(*columns),
    )
  rates = _column(results, "rate")
  ratios = sorted(a / b for a, b in zip(*rates))
  table.add_row(
    "examples/s",
    *(f"{statistics.median(values):.1f}" for values in rates),
    f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})",
  )
  seconds = _column(results, "compile_seconds")[0]
  table.add_row(
    "compiling, s",
    f"{statistics.median(seconds):.1f}",
    "-",
    f"{results['shapes']} shapes",
  )
  rich.print(table)


def _arguments() -> argparse.ArgumentParser:
  parser = runner.parser(__doc__)
  parser.add_argument("model", help="what bert_jax.load takes")
  parser.add_argument("--train", required=True)
  parser.add_argument("--eval", required=True)
  parser.add_argument("--task", default=_TASKS[0], choices=_TASKS)
  parser.add_argument(
    "--data",
    default=[],
    action="append",
    type=runner.key_and_value,
    metavar="NAME=JSON",
    help="a key of config.data, such as header=false",
  )
  parser.add_argument("--seeds", type=int, default=3)
  parser.add_argument(
    "--limit", type=int, default=0, help="records per split; 0 for all"
  )
  parser.add_argument("--epochs", type=float)
  parser.add_argument("--batch_size", type=int)
  parser.add_argument("--learning_rate", type=float)
  parser.add_argument("--dropout", type=float, default=0.1)
  parser.add_argument("--threads", type=int, default=2)
  parser.add_argument("--peer", default=str(_PEER), help="a Python program")
  return parser


def main() -> None:
  """Trains, prints and writes the results."""
  parser = _arguments()
  arguments = parser.parse_args()
  process.keep_memory()  # As a command does.
  if shutil.which(arguments.peer) is None:
    parser.error(f"--peer: no program {arguments.peer}; see --help")
  for name in ("seeds", "threads"):
    if getattr(arguments, name) < 1:
      parser.error(f"--{name}: expected at least 1")
  runner.use_cores(arguments.threads)
  try:
    results = compare(arguments)
  except UserError as error:
    parser.error(str(error))
  except subprocess.CalledProcessError as error:
    parser.exit(1, f"error: the peer failed: {error}\n")
  runner.write_results(_RESULTS, results)
  print_results(results)


if __name__ == "__main__":
  main()
