"""What came of a run: a table, a picture of its curves, a JSON file."""

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.figure
import rich.console
import rich.table

from bert_jax.settings import UserError
from bert_jax.training import workdir as workdirs
from bert_jax.training.best import is_better
from bert_jax.training.logging import METRICS_FILE, read_metrics

RESULTS_FILE = "results.json"
CURVES_FILE = "curves.png"

_BASELINE = "_baseline"


def report(
  workdir: pathlib.Path, others: Mapping[str, pathlib.Path] | None = None
) -> dict[str, Any]:
  """Writes `results.json` and `curves.png` into a run's folder.

  Args:
    workdir: the folder.
    others: folders of further runs by the names that their measures are to
      bear; of each the measure that its recipe follows, and its baselines.

  Returns:
    What is in `results.json`: the measures of the last evaluation with their
    baselines, `steps`, `seconds` (of training, evaluation and compilation)
    and `real_tokens_per_second` (of training alone, over all steps).

  Raises:
    UserError: the folder has no figures of a training and an evaluation.
  """
  rows = read_metrics(workdir)
  train = [row for row in rows if row["split"] == "train"]
  held_out = [row for row in rows if row["split"] == "held_out"]
  if not train or not held_out:
    raise UserError(
      f"{workdir / METRICS_FILE}: expected rows of training and evaluation;"
      " train first, with --workdir of this folder"
    )
  results = {
    **_figures(held_out[-1]),
    "steps": held_out[-1]["step"],
    **_followed(others or {}),
    "seconds": rows[-1]["seconds"],
    "real_tokens_per_second": _throughput(train),
  }
  path = workdir / RESULTS_FILE
  partial = path.with_suffix(".tmp")
  partial.write_text(json.dumps(results, indent=2) + "\n")
  partial.replace(path)
  _draw(train, held_out, workdir / CURVES_FILE)
  return results


def print_table(results: Mapping[str, Any]) -> None:
  """Prints results for people, each measure beside its baseline."""
  table = rich.table.Table("held-out measure", "value", "baseline")
  for name, value in results.items():
    if _BASELINE in name:
      continue
    # The longest name that fits is that of the measure itself.
    baseline = [
      f"{_number(other)} {key[len(name) + 1 : -len(_BASELINE)]}"
      for key, other in results.items()
      if key.startswith(f"{name}_") and key.endswith(_BASELINE)
    ]
    table.add_row(name, _number(value), "; ".join(baseline))
  rich.console.Console().print(table)


def _followed(others: Mapping[str, pathlib.Path]) -> dict[str, float]:
  """The best value of the measure that each run follows, with baselines."""
  found = {}
  for name, workdir in others.items():
    rows = [r for r in read_metrics(workdir) if r["split"] == "held_out"]
    metric = workdirs.metric(workdir)
    rows = [row for row in rows if metric in row]
    if not rows:
      raise UserError(
        f"{workdir}: expected a run with config.evaluation.metric and figures"
        " of an evaluation"
      )
    best = rows[0]
    for row in rows[1:]:
      if is_better(metric, row[metric], best[metric]):
        best = row
    found |= {
      f"{name}_{key}": value
      for key, value in best.items()
      if key == metric
      or (key.startswith(f"{metric}_") and key.endswith(_BASELINE))
    }
  return found


def _figures(row: Mapping[str, Any]) -> dict[str, float]:
  return {
    name: value
    for name, value in row.items()
    if name not in ("step", "split", "seconds")
  }


def _throughput(train: Sequence[Mapping[str, Any]]) -> float:
  """Real tokens a second over all windows, each weighed by its seconds."""
  tokens, seconds, before = 0.0, 0.0, 0
  for row in train:
    steps = row["step"] - before
    spent = steps / row["steps_per_second"]
    tokens += row["real_tokens_per_second"] * spent
    seconds += spent
    before = row["step"]
  return round(tokens / seconds, 1)


def _number(value: float) -> str:
  return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


def _draw(
  train: Sequence[Mapping[str, Any]],
  held_out: Sequence[Mapping[str, Any]],
  path: pathlib.Path,
) -> None:
  """One panel a measure: training, held-out, and the baseline if any."""
  last = _figures(held_out[-1])
  names = [name for name in last if _BASELINE not in name]
  figure = matplotlib.figure.Figure(
    figsize=(5 * ((len(names) + 1) // 2), 7), layout="constrained"
  )
  for axes, name in zip(figure.subplots(2, (len(names) + 1) // 2).flat, names):
    for rows, label, style in (
      (train, "training", {"alpha": 0.5}),
      (held_out, "held-out", {"marker": "o"}),
    ):
      points = [(row["step"], row[name]) for row in rows if name in row]
      axes.plot(*zip(*points), label=label, **style)
    for key, value in last.items():
      if key.startswith(f"{name}_") and key.endswith(_BASELINE):
        label = key.removeprefix(f"{name}_").replace("_", " ")
        axes.axhline(value, color="gray", linestyle="--", label=label)
    axes.set_title(name)
    axes.set_xlabel("step")
    axes.grid(alpha=0.3)
    axes.legend()
  figure.savefig(path, dpi=100)
