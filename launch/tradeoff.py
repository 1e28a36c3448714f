"""Shows what smaller models cost: a curve of size, latency and quality.

    bert-jax tradeoff --model MODEL --data dev.tsv --train train.tsv \
        --output curve --finetune configs/finetune/classification.py

Makes smaller models of MODEL by `bert-jax compress`, each by one method at some
strength, and evaluates all on the labelled records in --data. Writes
`tradeoff.json`, `tradeoff.png` and `tradeoff.html`, with the commands of every
point. Models are kept in the folder `points`, so a run that was interrupted
goes on.

--methods selects among these, with strengths if others are wanted, such as
`layers=3:2,bits`:

layers: so many layers are kept.
heads, units: shares that are removed, by importance on --train.
vocabulary: the tokens of the texts in --train are kept.
bits: of kernels and embeddings.
small: the vocabulary, in so many bits.
patience, entropy: how rows leave a model that has early exits.

With --finetune, a recipe and maybe further flags of `bert-jax train` in quotes,
models that lost layers, heads or units are trained on with the records in
--train. --points adds models that were made in another way, such as students of
distillation. The files' formats are those of `bert-jax evaluate`.
"""

import functools
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from bert_jax import loading
from bert_jax.evaluation import evaluate, tradeoff
from bert_jax.evaluation.tradeoff import FULL, Curve, Point
from bert_jax.model import Model
from bert_jax.models.config import EncoderConfig
from bert_jax.models.exits import Exits
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.tasks.task import Task

from . import cli, data_flags

_STRENGTHS: Mapping[str, tuple[str, ...]] = {
  "layers": (),  # By the model's number.
  "heads": ("0.25", "0.5"),
  "units": ("0.25", "0.5", "0.75"),
  "vocabulary": ("train",),
  "bits": ("8", "4"),
  "small": ("8", "4"),
  "patience": ("1", "2", "3"),
  "entropy": ("0.1", "0.3", "0.5"),
}
_TRAINED = ("layers", "heads", "units")
_NEED_RECORDS = ("heads", "units", "vocabulary", "small")
_LEAVING = ("patience", "entropy")


class _Plan(NamedTuple):
  """How a point is made: flags of `bert-jax compress`, or none."""

  name: str
  method: str
  flags: tuple[str, ...] = ()
  exits: Mapping[str, Any] | None = None
  bits: int = 0


def define(values: cli.Values) -> None:
  """Defines the flags."""
  values.define("model", "The full model.", required=True)
  values.define("task", "A task other than that of the model's head.")
  values.define(
    "data", "Files with labelled records to evaluate on.", required=True
  )
  values.define("output", "The folder to write to.", required=True)
  values.define(
    "methods",
    f"Of {', '.join(_STRENGTHS)}, by default all that fit; with strengths,"
    " layers=3:2.",
    "list",
  )
  values.define(
    "train",
    "Files with labelled records, which heads, units and vocabulary are chosen"
    " by, and which --finetune trains on.",
  )
  values.define(
    "finetune",
    "A recipe, and maybe flags of `bert-jax train`, to train on what lost"
    " layers, heads or units.",
  )
  values.define(
    "points", "Further models, NAME=MODEL.", "multi_string", default=[]
  )
  values.define("metric", "The metric of quality; by default the task's first.")
  data_flags.define(values)


def show(values: cli.Values) -> None:
  """Makes the curve."""
  if values.finetune is not None and values.train is None:
    raise UserError("--finetune needs --train")
  try:
    full = loading.load_model(values.model, values.task)
    given = evaluate.source(
      values.model,
      full.task,
      values.data,
      values.task,
      **data_flags.changes(values),
    )
    measured = evaluate.evaluate(_never(full), given)
  except UserError as error:
    raise UserError(data_flags.in_flags(str(error), "data")) from error
  full = _never(full)
  metric = values.metric or next(iter(measured.metrics))
  if metric not in measured.metrics:
    raise UserError(
      f"--metric: expected one of {', '.join(measured.metrics)}, got {metric}"
    )
  folder = pathlib.Path(values.output)
  (folder / "points").mkdir(parents=True, exist_ok=True)
  points = [tradeoff.point(FULL, FULL, (), full, full, measured)]
  failed: dict[str, str] = {}
  _say(points[0], metric)
  for plan in [*_plans(values, full), *_given(values)]:
    try:
      where, commands = _make(values, plan, folder / "points")
      model = _load(where, full.task, plan)
      found = evaluate.evaluate(model, given)
    except UserError as error:
      failed[plan.name] = str(error)
      print(f"{plan.name}: {error}")
      continue
    points.append(
      tradeoff.point(
        plan.name, plan.method, commands, model, full, found, plan.bits
      )
    )
    _say(points[-1], metric)
    # After each point: they may take long.
    curve = Curve(values.model, values.data, metric, points, failed)
    files = tradeoff.write(curve, paths.as_path(folder))
  if len(points) == 1:
    raise UserError("--methods: no smaller model could be made")
  for name, value in curve.advice().items():
    print(f"{name}: {value}")
  print(", ".join(map(str, files)))


def _never(model: Model) -> Model:
  """The model, whose rows never leave early."""
  if not model.task.exits.every:
    return model
  task = model.task.with_exits(Exits(model.task.exits.every))
  return Model(task, model.params, model.batch_size, model.mesh)


def _load(where: str, task: Task, plan: _Plan) -> Model:
  model = loading.load_model(where, task.name, exits=plan.exits)
  return model if plan.exits is not None else _never(model)


def _given(values: cli.Values) -> Iterator[_Plan]:
  """The points of --points."""
  for given in values.points:
    name, equals, where = given.partition("=")
    if not name or not equals:
      raise UserError(f"--points {given}: expected NAME=MODEL")
    yield _Plan(name, "given", (where,))


def _plans(values: cli.Values, full: Model) -> Iterator[_Plan]:
  """The points of --methods."""
  has_exits = bool(full.task.exits.every)
  chosen: dict[str, Sequence[str]] = {}
  for given in values.methods or _STRENGTHS:
    method, _, strengths = given.partition("=")
    if method not in _STRENGTHS:
      raise UserError(
        f"--methods: expected some of {', '.join(_STRENGTHS)}, got {method!r}"
      )
    if values.methods is None:
      if method in _NEED_RECORDS and values.train is None:
        continue
      if method in _LEAVING and not has_exits:
        continue
    elif method in _NEED_RECORDS and values.train is None:
      raise UserError(f"--methods: {method} needs --train")
    chosen[method] = strengths.split(":") if strengths else _STRENGTHS[method]
  if "layers" in chosen:
    chosen["layers"] = chosen["layers"] or _layers(full.config)
  for method, strengths in chosen.items():
    for strength in strengths:
      yield _plan(values, method, strength)


def _layers(config: EncoderConfig) -> list[str]:
  """Numbers of layers from almost all to few."""
  count = config.num_layers
  numbers = {round(count * n / 6) for n in range(1, 6)} - {0, count}
  return [str(n) for n in sorted(numbers, reverse=True)]


def _plan(values: cli.Values, method: str, strength: str) -> _Plan:
  name = f"{method} {strength}"
  if method in _LEAVING:
    exits = {"patience": int, "entropy": float}[method]
    try:
      return _Plan(name, method, exits={method: exits(strength)})
    except ValueError:
      raise UserError(f"--methods: {method}={strength}: no number") from None
  texts = (f"--vocabulary={values.train}",)
  if method == "vocabulary":
    return _Plan("vocabulary", method, texts)
  if method in ("bits", "small"):
    flags = (f"--bits={strength}",)
    if method == "small":
      flags, name = texts + flags, f"vocabulary, {strength} bits"
      method = "vocabulary and bits"
    return _Plan(name, method, flags, bits=int(strength))
  flags = (f"--{method}={strength}",)
  if method in _NEED_RECORDS:
    flags += (f"--data={values.train}",)
  return _Plan(name, method, flags)


def _make(
  values: cli.Values, plan: _Plan, folder: pathlib.Path
) -> tuple[str, list[str]]:
  """Where the model of a point is, after making it, and its commands."""
  if plan.method == "given":
    (where,) = plan.flags
    return where, []
  if plan.exits is not None:
    ((name, value),) = plan.exits.items()
    flag = f"--exits={name}={value}"
    command = ["bert-jax", "predict", "--model", values.model, flag]
    return values.model, [shlex.join(command)]
  own = folder / plan.name.replace(", ", "-").replace(" ", "-")
  command = ["compress", "--model", values.model, "--output", str(own)]
  command += [*plan.flags, *data_flags.arguments(values)]
  if values.task is not None:
    command.append(f"--task={values.task}")
  commands = [command]
  if values.finetune is not None and plan.method in _TRAINED:
    trained = folder / f"{own.name}-trained"
    recipe, *more = shlex.split(values.finetune)
    commands.append(
      [
        "train",
        "--config",
        recipe,
        f"--config.init={own}",
        f"--config.data.train={values.train}",
        f"--config.data.eval={values.data}",
        *more,
        "--workdir",
        str(trained),
      ]
    )
    own = trained
  for arguments in commands:
    _run(arguments, folder)
  return str(own), [shlex.join(["bert-jax", *x]) for x in commands]


def _run(arguments: Sequence[str], folder: pathlib.Path) -> None:
  """Runs a command, unless its folder is complete, in a process of its own.

  Raises:
    UserError: it failed.
  """
  place = 1 + max(
    i for i, x in enumerate(arguments) if x in ("--output", "--workdir")
  )
  where = pathlib.Path(arguments[place])
  # Training goes on from its last checkpoint, or has nothing to do.
  if arguments[0] == "compress" and where.exists():
    return
  with (folder / f"{where.name}.log").open("w") as log:
    done = subprocess.run(
      [sys.executable, "-m", __package__, *arguments],
      stdout=log,
      stderr=subprocess.PIPE,
      text=True,
      check=False,
    )
  if done.returncode:
    *_, reason = done.stderr.strip().splitlines() or ["no reason"]
    raise UserError(reason.removeprefix("error: "))


def _say(point: Point, metric: str) -> None:
  print(
    f"{point.name:24} {point.bytes / 1e6:8.2f} MB {point.milliseconds:8.2f} ms"
    f" {point.speedup:6.2f}x  {metric} {point.metrics[metric]:.4f}",
    flush=True,
  )


main = functools.partial(cli.run, show, define)

if __name__ == "__main__":
  sys.exit(main())
