"""Reports of a run: a table, a plot of its curves, a JSON file."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import matplotlib.axes
import matplotlib.figure
import rich.console
import rich.table

from bert_jax.settings import UserError
from bert_jax.storage import folders, paths
from bert_jax.training import workdir as workdirs
from bert_jax.training.logging import METRICS_FILE, read_metrics
from bert_jax.training.metrics import baselines_of, is_better, without_baselines

RESULTS_FILE = "results.json"
CURVES_FILE = "curves.png"

_COLUMNS = 4  # The largest number of panels in a row.


def report(
  workdir: Any, others: Mapping[str, Any] | None = None
) -> dict[str, Any]:
  """Writes `results.json` and `curves.png` into a run's folder.

  Args:
    workdir: the folder, as `paths.as_path` returns it.
    others: the folders of further runs by name; `NAME_METRIC` is the metric
      that the recipe of such a run follows, reported with its baselines.

  Returns:
    The contents of `results.json`: the metrics and baselines of the evaluation
    that is the best by the metric of the recipe, or else of the last one;
    `steps` up to there; and of the whole run `seconds` (of training,
    evaluation and compilation) and `non_padding_tokens_per_second` (of
    training alone).

  Raises:
    UserError: the folder has no metrics of training and evaluation.
  """
  train, evals = _rows(workdir)
  best = _best(evals, workdirs.metric(workdir))
  results = {
    **_metrics(best),
    "steps": best["step"],
    **_followed(others or {}),
    "seconds": max(train[-1]["seconds"], evals[-1]["seconds"]),
    "non_padding_tokens_per_second": _throughput(train),
  }
  with paths.staged_folder(workdir) as here:
    text = json.dumps(results, indent=2) + "\n"
    folders.write_text(here / RESULTS_FILE, text)
    draw(workdir, here / CURVES_FILE)
  return results


def print_table(results: Mapping[str, Any]) -> None:
  """Prints a table of the results, each metric with its baseline."""
  table = rich.table.Table("eval metric", "value", "baseline")
  for name in without_baselines(results):
    beside = (
      f"{_number(value)} {kind}"
      for kind, value in baselines_of(name, results).items()
    )
    table.add_row(name, _number(results[name]), "; ".join(beside))
  rich.console.Console().print(table)


def draw(workdir: Any, file: pathlib.Path | BinaryIO) -> None:
  """Plots the curves of a run as PNG.

  A metric that training logs too, or that has a baseline, gets a panel;
  further metrics between -1 and 1 share one.

  Raises:
    UserError: as `report`.
  """
  train, evals = _rows(workdir)
  last = _metrics(evals[-1])
  trained = {name for row in train for name in row}
  alone, together = [], {}
  for name in without_baselines(last):
    if name in trained or baselines_of(name, last):
      alone.append(name)
    elif all(-1 <= row.get(name, 0) <= 1 for row in evals):
      task = name.rpartition("/")[0]  # Of several tasks, its name.
      together.setdefault(task, []).append(name)
  count = len(alone) + len(together)
  columns = min(count, _COLUMNS)
  lines = -(-count // columns)
  figure = matplotlib.figure.Figure(
    figsize=(5 * columns, 3.5 * lines), layout="constrained"
  )
  places = iter(range(1, count + 1))
  for name in alone:
    axes = figure.add_subplot(lines, columns, next(places))
    _plot(axes, train, name, "training", alpha=0.5)
    _plot(axes, evals, name, "eval", marker="o")
    for kind, value in baselines_of(name, last).items():
      label = f"{kind.replace('_', ' ')} baseline"
      axes.axhline(value, color="gray", linestyle="--", label=label)
    _finish(axes, name)
  for task, names in together.items():
    axes = figure.add_subplot(lines, columns, next(places))
    for name in names:
      _plot(axes, evals, name, name.rpartition("/")[2], marker=".")
    _finish(axes, f"{task}: further metrics" if task else "further metrics")
  figure.savefig(file, dpi=100)


def _plot(
  axes: matplotlib.axes.Axes,
  rows: Sequence[Mapping[str, Any]],
  name: str,
  label: str,
  **style: Any,
) -> None:
  points = [(row["step"], row[name]) for row in rows if name in row]
  if points:
    axes.plot(*zip(*points), label=label, **style)


def _finish(axes: matplotlib.axes.Axes, title: str) -> None:
  axes.set_title(title)
  axes.set_xlabel("step")
  axes.grid(alpha=0.3)
  axes.legend(fontsize="small")


def _rows(workdir: Any) -> list[list[Mapping[str, Any]]]:
  """The rows of training, and those of evaluations."""
  rows = read_metrics(workdir)
  splits = [[r for r in rows if r["split"] == x] for x in ("train", "eval")]
  if not all(splits):
    raise UserError(
      f"{workdir / METRICS_FILE}: expected rows of training and evaluation;"
      " train first, with --workdir of this folder"
    )
  return splits


def _best(evals: Sequence[Mapping[str, Any]], metric: str) -> Mapping[str, Any]:
  """The best evaluation by a metric; without one, the last."""
  # The evaluation before the first update is never the one that is kept.
  rows = [row for row in evals if metric in row and row["step"]]
  best, *rest = rows or evals[-1:]
  for row in rest:
    if is_better(metric, row[metric], best[metric]):
      best = row
  return best


def _followed(others: Mapping[str, Any]) -> dict[str, float]:
  """The best value of the metric that each run follows, with baselines."""
  found = {}
  for name, workdir in others.items():
    metric = workdirs.metric(workdir)
    best = _best(_rows(workdir)[1], metric)
    if metric not in best:
      raise UserError(
        f"{workdir}: expected a run with config.evaluation.metric and an"
        " evaluation"
      )
    found[f"{name}_{metric}"] = best[metric]
    for kind, value in baselines_of(metric, best).items():
      found[f"{name}_{metric}_{kind}_baseline"] = value
  return found


def _metrics(row: Mapping[str, Any]) -> dict[str, float]:
  others = ("step", "split", "seconds")
  return {name: value for name, value in row.items() if name not in others}


def _throughput(train: Sequence[Mapping[str, Any]]) -> float:
  """Non-padding tokens per second of the whole run."""
  tokens, seconds, before = 0.0, 0.0, 0
  for row in train:
    spent = (row["step"] - before) / row["steps_per_second"]
    tokens += row["non_padding_tokens_per_second"] * spent
    seconds += spent
    before = row["step"]
  return round(tokens / seconds, 1)


def _number(value: float) -> str:
  return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
