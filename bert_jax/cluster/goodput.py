"""The wall time of a run by phase, over all restarts.

Goodput is the share of the wall time that is spent on updates that count: not
on starting, compiling, waiting for data, evaluating or saving, not on updates
that a crash lost, and not the time until the run was restarted.
"""

import json
import pathlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

from bert_jax.cluster import processes
from bert_jax.storage import folders

FILE = "goodput.json"

PHASES = (
  "training",
  "starting",
  "compiling",
  "loading",
  "evaluating",
  "saving",
  "redone",
  "away",
)
"""The phases of a run.

`loading` is waiting for batches, `saving` the time that a checkpoint blocks
the loop, `redone` training after the checkpoint that a restart went back to,
and `away` the time without a process.
"""


class GoodputRecorder:
  """Counts the seconds of each phase; one phase follows the other.

  Attributes:
    phase: the current phase.
    since: when it started, by `time.time`.
    step: the number of updates done.
  """

  def __init__(self, workdir: pathlib.Path):
    """Continues from the file in the folder, in the phase `starting`."""
    self._path = workdir / FILE
    self._seconds = dict.fromkeys(PHASES, 0.0)
    self.phase, self.since, self.step = "starting", time.time(), 0
    try:
      saved = json.loads(self._path.read_text())
      seconds = {phase: float(saved["seconds"][phase]) for phase in PHASES}
      away = max(self.since - saved["until"], 0.0)
    except (OSError, ValueError, LookupError, TypeError):
      return  # There is none, or a crash of the machine damaged it.
    self._seconds = seconds | {"away": seconds["away"] + away}

  def enter(self, phase: str) -> None:
    """Ends the current phase and starts another."""
    assert phase in PHASES
    now = time.time()
    self._seconds[self.phase] += max(now - self.since, 0.0)
    self.phase, self.since = phase, now

  def state(self) -> dict[str, Any]:
    """The state for a checkpoint's metadata, as JSON values."""
    self.enter(self.phase)
    return {"training": self._seconds["training"]}

  def resume(self, state: Mapping[str, Any] | None) -> None:
    """Goes back to a checkpoint's state: training after it is `redone`.

    None goes back to the start.
    """
    kept = state["training"] if state else 0.0
    lost = max(self._seconds["training"] - kept, 0.0)
    self._seconds["training"] -= lost
    self._seconds["redone"] += lost

  def shares(self) -> dict[str, float]:
    """The share of the wall time of each phase."""
    self.enter(self.phase)
    total = sum(self._seconds.values()) or 1.0
    return {phase: value / total for phase, value in self._seconds.items()}

  def spent(self, phases: Iterable[str]) -> float:
    """The seconds of some phases until now."""
    self.enter(self.phase)
    return sum(self._seconds[phase] for phase in phases)

  def goodput(self) -> float:
    """The share of the wall time spent on updates that count."""
    return self.shares()["training"]

  def write(self) -> None:
    """Writes the file, in the first process."""
    if not processes.is_first():
      return
    self.enter(self.phase)
    seconds = {phase: round(x, 3) for phase, x in self._seconds.items()}
    entry = {
      "goodput": round(self.goodput(), 4),
      "seconds": seconds,
      "until": self.since,
    }
    folders.write_text(self._path, json.dumps(entry, indent=2) + "\n")
