"""Logs of a run: metrics.jsonl, the console, TensorBoard, W&B, MLflow."""

# The docstrings of overridden methods are those of `Logger`.
# ruff: noqa: D102

import contextlib
import importlib
import json
import os
import pathlib
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import rich.console
import rich.progress

from bert_jax import trees
from bert_jax.cluster import processes
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths

METRICS_FILE = "metrics.jsonl"
IDS_FILE = "loggers.json"


class Logger(contextlib.AbstractContextManager):
  """Gets the metrics and messages of a run; this one drops them.

  Subclass it and override what you need.
  """

  def start(self, step: int, steps: int) -> None:
    """The run starts, or resumes, after `step` of `steps` updates.

    Metrics of later steps that a run which was cut off has logged are logged
    again from now on.
    """

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Records metrics by name, of the split `train` or `eval`."""

  def say(self, message: str) -> None:
    """Shows a message."""

  def progress(self, step: int) -> None:
    """Shows the number of updates done; called after every update."""

  def close(self) -> None:
    """Writes what is buffered and closes files."""

  def __exit__(self, *error: Any) -> None:
    self.close()


class Loggers(Logger):
  """Several loggers as one, which closes them."""

  def __init__(self, loggers: Iterable[Logger]):
    self._stack = contextlib.ExitStack()
    self._loggers = [self._stack.enter_context(logger) for logger in loggers]

  def start(self, step: int, steps: int) -> None:
    for logger in self._loggers:
      logger.start(step, steps)

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    for logger in self._loggers:
      logger.write(step, split, values)

  def say(self, message: str) -> None:
    for logger in self._loggers:
      logger.say(message)

  def progress(self, step: int) -> None:
    for logger in self._loggers:
      logger.progress(step)

  def close(self) -> None:
    self._stack.close()


def open_logger(
  workdir: pathlib.Path,
  names: Sequence[str] = ("tensorboard",),
  config: Mapping[str, Any] | None = None,
) -> Logger:
  """Opens the logs of a run: metrics.jsonl, the console and those named.

  Only the first of several processes logs.

  Args:
    workdir: the run's folder.
    names: keys of `LOGGERS`.
    config: that of the run, for services that show it.

  Raises:
    UserError: a package is not installed.
  """
  if not processes.is_first():
    return Logger()
  named = [LOGGERS[name](workdir, config or {}) for name in names]
  return Loggers([JsonLines(workdir), *named, Console()])


class JsonLines(Logger):
  """Writes `workdir/metrics.jsonl`: step, split, seconds and values a line.

  `seconds` counts the time of the run without the time between restarts.
  """

  def __init__(self, workdir: pathlib.Path):
    self._workdir, self._file = workdir, None

  def start(self, step: int, steps: int) -> None:
    kept = [row for row in read_metrics(self._workdir) if row["step"] <= step]
    path = self._workdir / METRICS_FILE
    folders.write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
    self._file = path.open("a", encoding="utf-8")
    before = kept[-1]["seconds"] if kept else 0.0
    self._began = time.perf_counter() - before

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
    seconds = round(time.perf_counter() - self._began, 3)
    row = {"step": step, "split": split, "seconds": seconds, **rounded}
    self._file.write(json.dumps(row) + "\n")
    self._file.flush()

  def close(self) -> None:
    if self._file is not None:
      self._file.close()


def read_metrics(workdir: Any) -> list[dict]:
  """The lines of a run's metrics.jsonl; a truncated line is left out."""
  rows = []
  path = workdir / METRICS_FILE
  if not paths.exists(path):
    return rows
  for line in paths.read_bytes(path).decode(errors="replace").splitlines():
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError:
      continue
  return rows


class Console(Logger):
  """Prints to stderr: a progress bar on a terminal, and a line a log."""

  def __init__(self) -> None:
    self._steps = 0
    self._console = rich.console.Console(file=sys.stderr, highlight=False)
    self._bar = rich.progress.Progress(
      rich.progress.TextColumn("step {task.completed}/{task.total}"),
      rich.progress.BarColumn(bar_width=None),
      rich.progress.TimeRemainingColumn(),
      console=self._console,
      disable=not self._console.is_terminal,
    )

  def start(self, step: int, steps: int) -> None:
    self._steps = steps
    self._bar_task = self._bar.add_task("", total=steps, completed=step)
    self._bar.start()

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    shown = "  ".join(f"{name} {_short(x)}" for name, x in values.items())
    self.say(f"step {step}/{self._steps}  {split}  {shown}")

  def say(self, message: str) -> None:
    self._bar.console.print(message, markup=False, soft_wrap=True)

  def progress(self, step: int) -> None:
    self._bar.update(self._bar_task, completed=step)

  def close(self) -> None:
    self._bar.stop()


def _short(value: float) -> str:
  return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


class TensorBoard(Logger):
  """Writes `workdir/tensorboard`."""

  def __init__(self, workdir: pathlib.Path, config: Mapping[str, Any]):
    del config
    self._workdir, self._writer = workdir, None

  def start(self, step: int, steps: int) -> None:
    import tensorboardX  # Slow to import.

    self._writer = tensorboardX.SummaryWriter(
      str(self._workdir / "tensorboard"), purge_step=step + 1
    )

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    for name, value in values.items():
      self._writer.add_scalar(f"{split}/{name}", value, step)

  def close(self) -> None:
    if self._writer is not None:
      self._writer.close()


class WeightsAndBiases(Logger):
  """Logs to Weights & Biases; a resumed run continues the same W&B run.

  The project, the mode and the rest are taken from W&B's environment
  variables, such as WANDB_PROJECT and WANDB_MODE. Metrics have `step` as their
  x axis, for W&B does not accept a step twice.
  """

  def __init__(self, workdir: pathlib.Path, config: Mapping[str, Any]):
    self._wandb = _import("wandb")
    self._workdir, self._config, self._run = workdir, config, None

  def start(self, step: int, steps: int) -> None:
    try:
      self._run = self._wandb.init(
        id=_id_of(self._workdir, "wandb", lambda: uuid.uuid4().hex[:8]),
        resume="allow",
        name=self._workdir.name,
        config=dict(self._config),
        dir=os.environ.get("WANDB_DIR", str(self._workdir)),
      )
    except self._wandb.Error as error:
      raise _unusable("wandb", error) from error
    self._run.define_metric("*", step_metric="step")

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    named = {f"{split}/{name}": value for name, value in values.items()}
    self._run.log({"step": step, **named})

  def close(self) -> None:
    if self._run is not None:
      self._run.finish()


class MLflow(Logger):
  """Logs to MLflow; a resumed run continues the same MLflow run.

  The server and the experiment are taken from MLflow's environment variables,
  such as MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME.
  """

  def __init__(self, workdir: pathlib.Path, config: Mapping[str, Any]):
    self._mlflow = _import("mlflow")
    self._workdir, self._config, self._run = workdir, config, None

  def start(self, step: int, steps: int) -> None:
    try:
      self._client = self._mlflow.MlflowClient()
      self._run = _id_of(self._workdir, "mlflow", self._create)
      self._client.update_run(self._run, status="RUNNING")
    except self._mlflow.MlflowException as error:
      raise _unusable("mlflow", error) from error

  def _create(self) -> str:
    client = self._client
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "Default")
    found = client.get_experiment_by_name(name)
    experiment = (
      found.experiment_id if found else client.create_experiment(name)
    )
    run = client.create_run(experiment, run_name=self._workdir.name)
    for key, value in trees.flatten(self._config).items():
      client.log_param(run.info.run_id, key, value)
    return run.info.run_id

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    now = int(time.time() * 1000)
    metrics = [
      self._mlflow.entities.Metric(f"{split}/{name}", value, now, step)
      for name, value in values.items()
    ]
    self._client.log_batch(self._run, metrics=metrics)

  def close(self) -> None:
    if self._run is not None:
      self._client.set_terminated(self._run)


LOGGERS: Mapping[str, Callable[[pathlib.Path, Mapping[str, Any]], Logger]] = {
  "tensorboard": TensorBoard,
  "wandb": WeightsAndBiases,
  "mlflow": MLflow,
}
"""The loggers that `config.logging.loggers` may name."""


def _import(name: str) -> Any:
  try:
    return importlib.import_module(name)
  except ImportError:
    raise UserError(
      f"config.logging.loggers: {name} is not installed; pip install"
      f" 'bert_jax[{name}]'"
    ) from None


def _unusable(name: str, error: Exception) -> UserError:
  reason = str(error).strip().split("\n")[0]
  return UserError(f"config.logging.loggers: {name}: {reason}")


def _id_of(
  workdir: pathlib.Path, logger: str, create: Callable[[], str]
) -> str:
  """The id of the run with a logger's service, kept in `loggers.json`."""
  path = workdir / IDS_FILE
  ids = json.loads(path.read_text()) if path.exists() else {}
  if logger not in ids:
    ids[logger] = create()
    folders.write_text(path, json.dumps(ids, indent=2) + "\n")
  return ids[logger]
