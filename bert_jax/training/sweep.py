"""A search over values of config keys, with Optuna."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import rich.console
import rich.table

from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.training import run
from bert_jax.training.metrics import DivergedError, is_better
from bert_jax.training.recipe import Recipe

TRIALS_FILE = "trials.jsonl"
_RANGE = re.compile(r"([^:]+):([^:]+)(:log)?")


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
  space = {search.key: _distribution(optuna, search) for search in searches}
  study = optuna.create_study(direction=direction)
  for row in done:
    _check_same(path, row["config"], searches)
    _tell(optuna, study, space, row)
  for number in range(len(done), trials):
    study.sampler = optuna.samplers.TPESampler(seed=seed + number)
    values = study.ask(space).params
    row = _try(config, workdir / f"trial_{number}", number, values, metric)
    _append(path, json.dumps(row) + "\n")
    done.append(row)
    study = optuna.create_study(direction=direction)
    for row in done:
      _tell(optuna, study, space, row)
  sign = -1 if direction == "maximize" else 1

  def worst_last(row: Mapping[str, Any]) -> float:
    return float("inf") if row["value"] is None else sign * row["value"]

  return sorted(done, key=worst_last)


def _append(path: Any, line: str) -> None:
  if not paths.is_remote(path):
    with path.open("a", encoding="utf-8") as file:
      file.write(line)
    return
  before = paths.read_bytes(path) if paths.exists(path) else b""
  paths.write_bytes(path, before + line.encode())


def _done(path: Any) -> list[dict[str, Any]]:
  """The trials of a file; a truncated last line is removed from it.

  Raises:
    UserError: the file is damaged.
  """
  text = paths.read_bytes(path).decode() if paths.exists(path) else ""
  whole = text[: text.rfind("\n") + 1]
  if whole != text:
    paths.write_bytes(path, whole.encode())
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


def print_table(rows: Sequence[Mapping[str, Any]], metric: str) -> None:
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


def _tell(
  optuna: Any, study: Any, space: Mapping[str, Any], row: Mapping[str, Any]
) -> None:
  failed = row["value"] is None
  state = optuna.trial.TrialState
  study.add_trial(
    optuna.trial.create_trial(
      params=row["config"],
      distributions=dict(space),
      value=row["value"],
      state=state.FAIL if failed else state.COMPLETE,
    )
  )


def _try(
  config: Mapping[str, Any],
  workdir: Any,
  number: int,
  values: Mapping[str, Any],
  metric: str,
) -> dict[str, Any]:
  recipe = Recipe.from_dict(changed(config, values))
  try:
    metrics = run.train_recipe(recipe, workdir)
  except DivergedError:
    metrics = {}
  return {
    "trial": number,
    "config": dict(values),
    "value": metrics.get(metric),
    "metrics": metrics,
  }


def changed(
  config: Mapping[str, Any], values: Mapping[str, Any], flag: str = "--search"
) -> dict[str, Any]:
  """A copy of a config with other values at some paths, `a.b.c`.

  Args:
    config: the config, which is not changed.
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
