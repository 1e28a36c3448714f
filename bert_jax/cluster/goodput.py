"""Where the wall time of a run goes, over all restarts.

Goodput is the share of it that went into updates that count: not into
starting, compiling, waiting for data, evaluating or saving, not into updates
that a crash threw away, and not into the time until somebody restarted it.
"""

import json
import pathlib
import time
from collections.abc import Iterable, Mapping
from typing import Any

from bert_jax.cluster import processes
from bert_jax.storage import folders

FILE = "goodput.json"

KINDS = (
  "training",
  "starting",
  "compiling",
  "loading",
  "evaluating",
  "saving",
  "redone",
  "away",
)
"""What time is spent on.

`loading` is waiting for batches, `saving` what a checkpoint holds up,
`redone` training since the checkpoint that a restart went back to, and `away`
the time without a process.
"""


class Ledger:
  """Counts the seconds of each kind; from `turn` to `turn` all are of one.

  Attributes:
    kind: what is being done.
    since: when that began, by `time.time`.
    step: updates done.
  """

  def __init__(self, workdir: pathlib.Path):
    """Goes on from what the folder has, with `starting`."""
    self._path = workdir / FILE
    self._seconds = dict.fromkeys(KINDS, 0.0)
    self.kind, self.since, self.step = "starting", time.time(), 0
    try:
      kept = json.loads(self._path.read_text())
      seconds = {kind: float(kept["seconds"][kind]) for kind in KINDS}
      away = max(self.since - kept["until"], 0.0)
    except (OSError, ValueError, LookupError, TypeError):
      return  # There is none, or a crash of the machine spoiled it.
    self._seconds = seconds | {"away": seconds["away"] + away}

  def turn(self, kind: str) -> None:
    """Ends what was done so far, and begins something."""
    assert kind in KINDS
    now = time.time()
    self._seconds[self.kind] += max(now - self.since, 0.0)
    self.kind, self.since = kind, now

  def state(self) -> dict[str, Any]:
    """What goes with a checkpoint, for JSON."""
    self.turn(self.kind)
    return {"training": self._seconds["training"]}

  def resume(self, state: Mapping[str, Any] | None) -> None:
    """Goes back to a checkpoint: what came after is to be done again.

    Args:
      state: of that checkpoint; None goes back to the beginning.
    """
    kept = state["training"] if state else 0.0
    lost = max(self._seconds["training"] - kept, 0.0)
    self._seconds["training"] -= lost
    self._seconds["redone"] += lost

  def shares(self) -> dict[str, float]:
    """Which share of all time each kind has."""
    self.turn(self.kind)
    total = sum(self._seconds.values()) or 1.0
    return {kind: value / total for kind, value in self._seconds.items()}

  def spent(self, kinds: Iterable[str]) -> float:
    """The seconds of some kinds, until now."""
    self.turn(self.kind)
    return sum(self._seconds[kind] for kind in kinds)

  def goodput(self) -> float:
    """The share of updates that count."""
    return self.shares()["training"]

  def write(self) -> None:
    """Keeps what was counted; of several processes the first does."""
    if not processes.is_first():
      return
    self.turn(self.kind)
    seconds = {kind: round(value, 3) for kind, value in self._seconds.items()}
    entry = {
      "goodput": round(self.goodput(), 4),
      "seconds": seconds,
      "until": self.since,
    }
    folders.write_text(self._path, json.dumps(entry, indent=2) + "\n")
