"""The same recipe with several seeds: means, deviations, and failed runs.

The results of fine-tuning a large model on little data vary from seed to seed,
and some runs fail (Mosbach et al. 2021, arXiv:2006.04884), so a single run
says little.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rich.console
import rich.table

from bert_jax.cluster import processes
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths
from bert_jax.training import run
from bert_jax.training.metrics import (
  DivergedError,
  baselines_of,
  is_better,
  without_baselines,
)
from bert_jax.training.recipe import Recipe

SEEDS_FILE = "seeds.json"


def repeat(
  recipe: Recipe, workdir: paths.Path, seeds: Sequence[int]
) -> dict[str, Any]:
  """Trains a recipe once per seed, in `workdir/seed_N`.

  A run has failed if its losses are not finite, or if its `evaluation.metric`
  (or the first metric that has a baseline) is no better than that baseline.

  Args:
    recipe: the configuration; its seed is replaced.
    workdir: the folder for all runs.
    seeds: different seeds, at least one.

  Returns:
    The contents of `workdir/seeds.json`: `runs`, the metrics of each seed,
    null for a run that diverged; `mean` and `std` (with n - 1) of every metric
    over the other runs; `failed`, the seeds of failed runs.

  Raises:
    UserError: the recipe, its data or the seeds are invalid.
    Interrupted: the process was asked to stop; the same call resumes.
  """
  if not seeds or len({*seeds}) < len(seeds):
    raise UserError(f"--seeds: expected different seeds, got {list(seeds)}")
  workdir = paths.as_path(workdir)
  runs: dict[int, Mapping[str, float] | None] = {}
  for seed in seeds:
    try:
      runs[seed] = run.train_recipe(
        dataclasses.replace(recipe, seed=seed), workdir / f"seed_{seed}"
      )
    except DivergedError:
      runs[seed] = None
  ended = [values for values in runs.values() if values is not None]
  names = list(ended[0]) if ended else []
  columns = {name: [values[name] for values in ended] for name in names}
  summary = {
    "runs": runs,
    "mean": {name: float(np.mean(x)) for name, x in columns.items()},
    "std": {
      name: float(np.std(x, ddof=1)) if len(x) > 1 else 0.0
      for name, x in columns.items()
    },
    "failed": [
      seed
      for seed, values in runs.items()
      if values is None or _is_no_better(recipe.evaluation.metric, values)
    ],
  }
  text = json.dumps(summary, indent=2) + "\n"
  if processes.is_first():
    folders.write_text(workdir / SEEDS_FILE, text)
  return summary


def print_table(summary: Mapping[str, Any]) -> None:
  """Prints mean and deviation of every metric, and the failed runs."""
  runs, failed = summary["runs"], summary["failed"]
  table = rich.table.Table("eval metric", "mean", "std", "runs")
  for name in without_baselines(summary["mean"]):
    values = [f"{x[name]:.4g}" for x in runs.values() if x is not None]
    table.add_row(
      name,
      f"{summary['mean'][name]:.4g}",
      f"{summary['std'][name]:.2g}",
      " ".join(values),
    )
  console = rich.console.Console()
  console.print(table)
  seeds = f": seeds {', '.join(map(str, failed))}" if failed else ""
  console.print(f"{len(failed)} of {len(runs)} runs failed{seeds}")


def _is_no_better(metric: str, values: Mapping[str, float]) -> bool:
  """Whether a run is no better than the best constant answer."""
  for name in [metric] if metric else without_baselines(values):
    for baseline in baselines_of(name, values).values():
      return not is_better(name, values[name], baseline)
  return False
