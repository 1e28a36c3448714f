"""Several runs of a recipe: with other seeds, or other values of some keys."""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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
TRIALS_FILE = "trials.jsonl"
_RANGE = re.compile(r"([^:]+):([^:]+)(:log)?")


def repeat(
  recipe: Recipe, workdir: paths.Path, seeds: Sequence[int]
) -> dict[str, Any]:
  """Trains a recipe once per seed, in `workdir/seed_N`.

  The results of fine-tuning a large model on little data vary from seed to
  seed, and some runs fail (Mosbach et al. 2021, arXiv:2006.04884), so a single
  run says little.

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
  runs = {
    seed: _train(
      dataclasses.replace(recipe, seed=seed), workdir / f"seed_{seed}"
    )
    for seed in seeds
  }
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
  if processes.is_first():
    text = json.dumps(summary, indent=2) + "\n"
    folders.write_text(workdir / SEEDS_FILE, text)
  return summary


def _train(recipe: Recipe, workdir: paths.Path) -> dict[str, float] | None:
  try:
    return run.train_recipe(recipe, workdir)
  except DivergedError:
    return None


def _is_no_better(metric: str, values: Mapping[str, float]) -> bool:
  """Whether a run is no better than the best constant answer."""
  for name in [metric] if metric else without_baselines(values):
    for baseline in baselines_of(name, values).values():
      return not is_better(name, values[name], baseline)
  return False


def print_seeds(summary: Mapping[str, Any]) -> None:
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


class Search(NamedTuple):
  """A key of the config and its search space.

  Attributes:
    key: its path, such as `optimizer.learning_rate`.
    choices: the values; empty for a range.
    low: the lowest value of a range.
    high: the highest value of a range.
    log: whether the range is sampled on a logarithmic scale.
  """

  key: str
  choices: tuple[Any, ...] = ()
  low: float = 0.0
  high: float = 0.0
  log: bool = False


def parse(text: str) -> Search:
  """Reads `KEY=VALUE,VALUE,...`, `KEY=LOW:HIGH` or `KEY=LOW:HIGH:log`.

  Raises:
    UserError: the text has another form.
  """
  key, equals, values = text.partition("=")
  where = f"--search {text}"
  if not equals or not key.strip() or not values.strip():
    raise UserError(f"{where}: expected KEY=V1,V2 or KEY=LOW:HIGH[:log]")
  key = key.strip().removeprefix("config.")
  found = _RANGE.fullmatch(values)
  if not found:
    return Search(key, tuple(_value(v.strip()) for v in values.split(",")))
  low, high = _value(found[1]), _value(found[2])
  are_numbers = all(type(x) in (int, float) for x in (low, high))
  if not are_numbers or not -math.inf < low < high < math.inf:
    raise UserError(f"{where}: expected two numbers, the lower one first")
  if found[3] and low <= 0:
    raise UserError(f"{where}: log needs numbers above 0")
  return Search(key, (), low, high, bool(found[3]))


def _value(text: str) -> Any:
  """A JSON number, true, false or null; anything else is text."""
  try:
    return json.loads(text)
  except ValueError:
    return text


def sweep(
  config: Mapping[str, Any],
  workdir: paths.Path,
  searches: Sequence[Search],
  trials: int,
  seed: int = 0,
) -> list[dict[str, Any]]:
  """Trains a recipe with different values of some keys, each in `trial_N`.

  The values are chosen by the tree-structured Parzen estimator (Bergstra et
  al. 2011) of Optuna. They depend on the seed and the earlier trials alone, so
  that an interrupted search resumes where it stopped.

  Args:
    config: of the recipe; its `evaluation.metric` is optimized.
    workdir: the folder for all runs and for `trials.jsonl`.
    searches: the keys and their search spaces.
    trials: the total number of trials.
    seed: of the search.

  Returns:
    The lines of `trials.jsonl`, best first: `trial`, `config` (the values
    tried), `value`, null for a failed run, and `metrics`.

  Raises:
    UserError: an argument or the config is invalid, or Optuna is missing.
    Interrupted: the process was asked to stop; the same call resumes.
  """
  optuna = _optuna()
  metric = Recipe.from_dict(config).evaluation.metric
  if not metric:
    raise UserError("config.evaluation.metric: missing; a sweep needs one")
  direction = "maximize" if is_better(metric, 1.0, 0.0) else "minimize"
  workdir = paths.as_path(workdir)
  if not paths.is_remote(workdir):
    workdir.mkdir(parents=True, exist_ok=True)
  path = workdir / TRIALS_FILE
  done = _done(path)
  for row in done:
    _check_same(path, row["config"], searches)
  space = {search.key: _distribution(optuna, search) for search in searches}
  for number in range(len(done), trials):
    sampler = optuna.samplers.TPESampler(seed=seed + number)
    study = optuna.create_study(direction=direction, sampler=sampler)
    study.add_trials([_told(optuna, space, row) for row in done])
    values = dict(study.ask(space).params)
    recipe = Recipe.from_dict(changed(config, values))
    metrics = _train(recipe, workdir / f"trial_{number}") or {}
    row = {"trial": number, "config": values}
    done.append({**row, "value": metrics.get(metric), "metrics": metrics})
    lines = [json.dumps(row) + "\n" for row in done]
    folders.write_text(path, "".join(lines))
  sign = -1 if direction == "maximize" else 1

  def worst_last(row: Mapping[str, Any]) -> float:
    return float("inf") if row["value"] is None else sign * row["value"]

  return sorted(done, key=worst_last)


def _done(path: Any) -> list[dict[str, Any]]:
  """The trials of a file, without a truncated last line.

  Raises:
    UserError: the file is damaged.
  """
  text = paths.read_bytes(path).decode() if paths.exists(path) else ""
  whole = text[: text.rfind("\n") + 1]
  try:
    return [json.loads(line) for line in whole.splitlines()]
  except ValueError as error:
    raise UserError(f"{path}: damaged ({error})") from error


def _check_same(
  path: Any, tried: Mapping[str, Any], searches: Sequence[Search]
) -> None:
  """Checks that the trials are of the same search."""
  is_same = tried.keys() == {search.key for search in searches} and all(
    tried[search.key] in search.choices
    if search.choices
    else type(tried[search.key]) in (int, float)
    and search.low <= tried[search.key] <= search.high
    for search in searches
  )
  if not is_same:
    raise UserError(
      f"{path}: has trials of other keys or values; choose another folder"
    )


def print_trials(rows: Sequence[Mapping[str, Any]], metric: str) -> None:
  """Prints the trials, best first."""
  keys = list(rows[0]["config"]) if rows else []
  table = rich.table.Table("trial", *keys, metric)
  for row in rows:
    value = "failed" if row["value"] is None else f"{row['value']:.4g}"
    tried = row["config"].values()
    shown = (f"{x:.4g}" if type(x) is float else str(x) for x in tried)
    table.add_row(str(row["trial"]), *shown, value)
  rich.console.Console().print(table)


def _optuna() -> Any:
  try:
    import optuna  # An extra: only sweeps need it.
  except ImportError:
    raise UserError(
      "a sweep needs Optuna: pip install 'bert_jax[sweep]'"
    ) from None
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  return optuna


def _distribution(optuna: Any, search: Search) -> Any:
  if search.choices:
    return optuna.distributions.CategoricalDistribution(search.choices)
  whole = type(search.low) is type(search.high) is int
  kind = "IntDistribution" if whole else "FloatDistribution"
  of = getattr(optuna.distributions, kind)
  return of(search.low, search.high, log=search.log)


def _told(optuna: Any, space: Mapping[str, Any], row: Mapping[str, Any]) -> Any:
  """A trial that is done, for a study."""
  state = optuna.trial.TrialState
  return optuna.trial.create_trial(
    params=row["config"],
    distributions=dict(space),
    value=row["value"],
    state=state.FAIL if row["value"] is None else state.COMPLETE,
  )


def changed(
  config: Mapping[str, Any], values: Mapping[str, Any], flag: str = "--search"
) -> dict[str, Any]:
  """A copy of a config with other values at some paths, `a.b.c`.

  Args:
    config: the config.
    values: the values by path.
    flag: the flag that the paths come from, for messages.

  Raises:
    UserError: a part of a path is not a section.
  """
  new = json.loads(json.dumps(config))
  for path, value in values.items():
    *sections, key = path.split(".")
    section = new
    for name in sections:
      section = section.setdefault(name, {})
      if not isinstance(section, dict):
        raise UserError(f"{flag} {path}: config.{name} is not a section")
    section[key] = value
  return new
