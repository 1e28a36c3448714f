"""Where the figures of a run go: terminal, metrics.jsonl, TensorBoard."""

import contextlib
import json
import pathlib
import sys
import time
import types
from collections.abc import Mapping
from typing import Any, Self

import rich.console
import rich.progress
import tensorboardX

from bert_jax.cluster import processes
from bert_jax.storage import folders, paths

METRICS_FILE = "metrics.jsonl"


def read_metrics(workdir: Any) -> list[dict]:
  """The lines of a run's metrics.jsonl; a line cut short is left out."""
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


class Log(contextlib.AbstractContextManager):
  """Where the figures of a run go; this one drops them."""

  def say(self, message: str) -> None:
    """Prints a line for people."""

  def progress(self, step: int) -> None:
    """Shows how far the run is."""

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Records the figures of a step, and the seconds that the run has taken.

    Args:
      step: updates done so far.
      split: `train` or `eval`.
      values: figures by name.
    """

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: types.TracebackType | None,
  ) -> None:
    """Closes its files."""


def open_log(workdir: pathlib.Path, start: int, steps: int) -> Log:
  """Where this process writes the figures of a run; see `Logger`.

  Only the first of several does.
  """
  return Logger(workdir, start, steps) if processes.is_first() else Log()


class Logger(Log):
  """Writes the figures of a run; a context manager.

  On a terminal there is a progress bar, elsewhere a plain line for each set
  of figures.
  """

  def __init__(self, workdir: pathlib.Path, start: int, steps: int):
    """Opens the files of a run.

    Args:
      workdir: the run's folder.
      start: the step that the run goes on from; figures of later steps, left
        by a run that was cut off, are dropped, since they come again.
      steps: the run's last step.
    """
    kept = [row for row in read_metrics(workdir) if row["step"] <= start]
    path = workdir / METRICS_FILE
    folders.write_text(path, "".join(json.dumps(row) + "\n" for row in kept))
    self._file = path.open("a", encoding="utf-8")
    self._tensorboard = tensorboardX.SummaryWriter(
      str(workdir / "tensorboard"), purge_step=start + 1
    )
    self._steps = steps
    before = kept[-1]["seconds"] if kept else 0.0
    self._began = time.perf_counter() - before
    self._console = rich.console.Console(file=sys.stderr, highlight=False)
    self._bar = rich.progress.Progress(
      rich.progress.TextColumn("step {task.completed}/{task.total}"),
      rich.progress.BarColumn(bar_width=None),
      rich.progress.TimeRemainingColumn(),
      console=self._console,
      disable=not self._console.is_terminal,
    )
    self._bar_task = self._bar.add_task("", total=steps, completed=start)

  def __enter__(self) -> Self:
    self._bar.start()
    return self

  def __exit__(
    self,
    kind: type[BaseException] | None,
    error: BaseException | None,
    trace: types.TracebackType | None,
  ) -> None:
    self._bar.stop()
    self._file.close()
    self._tensorboard.close()

  def say(self, message: str) -> None:
    """Prints a line for people, above the progress bar."""
    self._bar.console.print(message, markup=False, soft_wrap=True)

  def progress(self, step: int) -> None:
    """Moves the progress bar."""
    self._bar.update(self._bar_task, completed=step)

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    """Records the figures of a step in all places."""
    rounded = {name: float(f"{value:.6g}") for name, value in values.items()}
    seconds = round(time.perf_counter() - self._began, 3)
    row = {"step": step, "split": split, "seconds": seconds, **rounded}
    self._file.write(json.dumps(row) + "\n")
    self._file.flush()
    for name, value in values.items():
      self._tensorboard.add_scalar(f"{split}/{name}", value, step)
    figures = "  ".join(
      f"{name} {_short(value)}" for name, value in values.items()
    )
    self.say(f"step {step}/{self._steps}  {split}  {figures}")


def _short(value: float) -> str:
  return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
