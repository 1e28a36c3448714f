"""Ends a run that hangs, and reports which process is behind.

The runtime notices a process that is gone, but never one that is alive and
stuck, in a deadlock or on a file system that does not answer: the others would
wait in their next collective forever.
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
  """Exits this process after a time without a call of `recorder.enter`.

  Before that, it prints the stacks of all its threads and the phase of every
  process, which each of them writes to the workdir.

  Args:
    recorder: has the phase of this process.
    workdir: the run's folder, shared by all processes.
    seconds: the time limit; 0 for no limit.
  """
  if not seconds:
    yield
    return
  over = threading.Event()
  # A thread also runs while the main thread hangs in a system call.
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
        if not paths.is_remote(folder):
          folder.mkdir(exist_ok=True)
        entry = json.dumps(_entry(recorder))
        folders.write_text(folder / f"{me}.json", entry)
    if time.time() - recorder.since > seconds:
      # Wait until the others have reported again.
      over.wait(pause)
      if time.time() - recorder.since > seconds:
        _end(recorder, folder, seconds, 4 * pause)


def _entry(recorder: GoodputRecorder) -> dict[str, Any]:
  return {
    "step": recorder.step,
    "phase": recorder.phase,
    "since": recorder.since,
    "reported": time.time(),
  }


def _end(
  recorder: GoodputRecorder, folder: Any, seconds: float, silent: float
) -> None:
  me, count = jax.process_index(), jax.process_count()
  faulthandler.dump_traceback(file=sys.stderr, all_threads=True)
  found = {i: _read(folder / f"{i}.json") for i in range(count) if i != me}
  found[me] = _entry(recorder)
  lines = [
    f"process {i} of {count}: {_what(entry, silent)}"
    for i, entry in sorted(found.items())
  ]
  behind = min(found, key=lambda i: _place(found[i], silent))
  held_up = f"; process {behind} is the furthest behind" if count > 1 else ""
  print(
    f"error: no progress for {seconds:g} s (config.guard.stuck_seconds); the"
    f" stacks are above{held_up}; {'; '.join(lines)}; the same command"
    " resumes from the newest checkpoint",
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
  return entry is None or time.time() - entry["reported"] > silent


def _what(entry: dict[str, Any] | None, silent: float) -> str:
  if entry is None:
    return "has not reported"
  suffix = ", silent since" if _is_silent(entry, silent) else ""
  return f"{entry['phase']} after {entry['step']} updates{suffix}"


def _place(
  entry: dict[str, Any] | None, silent: float
) -> tuple[bool, int, bool]:
  """The progress of a process, for sorting; silent processes come first."""
  if entry is None or _is_silent(entry, silent):
    return False, 0, False
  # At the same step, a process in an update is waiting for the others.
  return True, entry["step"], entry["phase"] == "training"
