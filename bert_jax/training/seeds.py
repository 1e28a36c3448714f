"""The same recipe with several seeds, and what came of them together.

Fine-tuning a large model on little data differs so much from seed to seed,
and now and then fails outright (Mosbach et al. 2021, arXiv:2006.04884), that
a single run says little.
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
  """Trains a recipe once a seed, each in `workdir/seed_N`.

  A run has failed where its losses are no longer finite, or where its
  `evaluation.metric` (or the first measure that has a baseline) is no better
  than that of the best constant answer.

  Args:
    recipe: what to do; its own seed is not used.
    workdir: the folder for all runs.
    seeds: at least one, each once.

  Returns:
    What `workdir/seeds.json` holds: `runs`, the measures of each seed, null
    for one that ended early; `mean` and `std` (with n - 1) of every measure
    over the runs that ended, failed ones too; `failed`, the seeds of those.

  Raises:
    UserError: something that the user gave is wrong.
    Interrupted: the process was asked to stop; the same call goes on.
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
  """Prints the mean and spread of every measure, and how many runs failed."""
  runs, failed = summary["runs"], summary["failed"]
  table = rich.table.Table("held-out measure", "mean", "std", "runs")
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
  """Whether a run learned no more than the best constant answer."""
  for measure in [metric] if metric else without_baselines(values):
    for baseline in baselines_of(measure, values).values():
      return not is_better(measure, values[measure], baseline)
  return False
