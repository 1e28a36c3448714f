"""Ends a run that hangs, and tells which process holds the others up.

The runtime notices a process that is gone. One that is alive but stuck, in a
deadlock or on a file system that does not answer, it never notices: the
others wait in their next collective for good.
"""

import contextlib
import faulthandler
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax

from bert_jax.cluster.goodput import GoodputRecorder
from bert_jax.cluster.interruption import EXIT_CODE
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths

FOLDER = "processes"


@contextlib.contextmanager
def watch(recorder: GoodputRecorder, workdir: Any, seconds: float) -> Iterator:
  """Ends this process once its recorder has had no `enter` for so long.

  Before, it writes the stacks of all its threads to stderr, and what every
  process was at, from what each keeps in the workdir.

  Args:
    recorder: what this process does.
    workdir: of the run, a path as `paths.at` gives it that all processes
      share.
    seconds: how long; 0 for ever.
  """
  if not seconds:
    yield
    return
  over = threading.Event()
  # Not even a main thread in a hanging system call can keep this one.
  thread = threading.Thread(
    target=_watch, args=(recorder, workdir, seconds, over), daemon=True
  )
  thread.start()
  try:
    yield
  finally:
    over.set()
    thread.join()


def _watch(
  recorder: GoodputRecorder, workdir: Any, seconds: float, over: threading.Event
) -> None:
  me, count = jax.process_index(), jax.process_count()
  folder = workdir / FOLDER
  pause = min(seconds / 4, 10.0)
  while not over.wait(pause):
    if count > 1:
      with contextlib.suppress(OSError, UserError):
        _tell(folder / f"{me}.json", recorder)
    if time.time() - recorder.since > seconds:
      # What the others were at is known once they have told it again.
      over.wait(pause)
      if time.time() - recorder.since > seconds:
        _end(recorder, folder, seconds, 4 * pause)


def _tell(path: Any, recorder: GoodputRecorder) -> None:
  entry = {
    "step": recorder.step,
    "phase": recorder.phase,
    "since": recorder.since,
    "told": time.time(),
  }
  if not paths.is_remote(path):
    path.parent.mkdir(exist_ok=True)
  folders.write_text(path, json.dumps(entry))


def _end(
  recorder: GoodputRecorder, folder: Any, seconds: float, silent: float
) -> None:
  me, count = jax.process_index(), jax.process_count()
  faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
  found = {i: _read(folder / f"{i}.json") for i in range(count) if i != me}
  found[me] = {
    "step": recorder.step,
    "phase": recorder.phase,
    "told": time.time(),
  }
  lines = [
    f"process {i} of {count}: {_what(entry, silent)}"
    for i, entry in sorted(found.items())
  ]
  behind = min(found, key=lambda i: _place(found[i], silent))
  held_up = f"; process {behind} is the furthest behind" if count > 1 else ""
  print(
    f"error: no progress for {seconds:g} s (config.guard.stuck_seconds), the"
    f" stacks are above{held_up}; {'; '.join(lines)}; the same command goes"
    " on from the newest checkpoint",
    file=sys.stderr,
    flush=True,
  )
  os._exit(EXIT_CODE)


def _read(path: Any) -> dict[str, Any] | None:
  try:
    return json.loads(paths.read_bytes(path))
  except (OSError, ValueError):
    return None


def _is_silent(entry: dict[str, Any] | None, silent: float) -> bool:
  return entry is None or time.time() - entry["told"] > silent


def _what(entry: dict[str, Any] | None, silent: float) -> str:
  if entry is None:
    return "never told what it does"
  suffix = ", not heard of since" if _is_silent(entry, silent) else ""
  return f"{entry['phase']} after {entry['step']} updates{suffix}"


def _place(
  entry: dict[str, Any] | None, silent: float
) -> tuple[bool, int, bool]:
  """How far a process is; those that tell nothing come first."""
  if entry is None or _is_silent(entry, silent):
    return False, 0, False
  # Of those at one step, the one that does not wait in an update.
  return True, entry["step"], entry["phase"] == "training"
