"""The lock that keeps a second run out of a run's folder.

On a file system it is the system's, which goes with the process. Object
stores have none: there the run writes an object again every few seconds, its
heartbeat. Who finds one looks on for a while. Where it changes, another run is
alive; where it does not, that run is dead, and its folder free. The one who
looks on goes by its own clock, for those of two machines may differ.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bert_jax.settings import UserError
from bert_jax.storage import paths

NAME = ".lock"
BEAT_SECONDS = 10.0
DEAD_SECONDS = 45.0  # Several beats: a store may be slow for a while.
_SETTLE_SECONDS = 1.0  # Two that write at once both see the later one's.

Check = Callable[[], None]
"""Raises UserError if another run has taken the folder meanwhile."""


@contextlib.contextmanager
def held(workdir: Any) -> Iterator[Check]:
  """Holds a folder for this process.

  Args:
    workdir: a path as `paths.at` gives it.

  Yields:
    What is to be called before anything is written.

  Raises:
    UserError: another run holds it, or it cannot be made.
  """
  if not paths.is_remote(workdir):
    with _flock(workdir):
      yield lambda: None
    return
  mine = {
    "host": socket.gethostname(),
    "machine": _machine(),
    "process": os.getpid(),
    "run": uuid.uuid4().hex,
  }
  _wait_until_free(workdir, mine)
  _write(workdir, mine, 0)
  time.sleep(_SETTLE_SECONDS)
  _check(workdir, mine)
  over = threading.Event()
  thread = threading.Thread(target=_beat, args=(workdir, mine, over))
  thread.daemon = True  # It must not keep a process that fails.
  thread.start()
  try:
    yield lambda: _check(workdir, mine)
  finally:
    over.set()
    thread.join()
    # Where this fails, whoever comes next sees that nobody is alive.
    with contextlib.suppress(UserError):
      if _is_mine(_read(workdir), mine):
        paths.remove(workdir / NAME)


@contextlib.contextmanager
def _flock(workdir: pathlib.Path) -> Iterator[None]:
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    file = (workdir / NAME).open("a+")
  except (FileExistsError, NotADirectoryError, PermissionError) as error:
    raise UserError(f"--workdir {workdir}: {error.strerror}") from error
  with file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
      file.seek(0)
      raise UserError(
        f"--workdir {workdir}: in use by another run"
        f" (process {file.read().strip() or 'unknown'})"
      ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    yield


def _machine() -> str:
  """What processes have in common that see each other by their ids."""
  try:
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"
  except OSError:
    return ""  # No Linux: nothing is known of another process.


def _wait_until_free(workdir: Any, mine: Mapping[str, Any]) -> None:
  found = _read(workdir)
  if found is None or _is_gone(found, mine):
    return
  print(
    f"{workdir}: another run ({_who(found)}) has left its lock; looking for"
    f" {DEAD_SECONDS:g} s whether it is alive",
    file=sys.stderr,
    flush=True,
  )
  began = time.monotonic()
  while time.monotonic() - began < DEAD_SECONDS:
    time.sleep(BEAT_SECONDS / 5)
    now = _read(workdir)
    if now is None:
      return
    if now != found:
      raise UserError(
        f"--workdir {workdir}: in use by another run ({_who(now)})"
      )


def _is_gone(found: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
  """Whether a lock is of a process of this machine that has ended."""
  if not mine["machine"] or found.get("machine") != mine["machine"]:
    return False
  try:
    os.kill(int(found["process"]), 0)
  except ProcessLookupError:
    return True
  except (LookupError, TypeError, ValueError, OSError):
    pass
  return False


def _beat(workdir: Any, mine: Mapping[str, Any], over: threading.Event) -> None:
  beats = 0
  while not over.wait(BEAT_SECONDS):
    # While the store does not answer nothing can be written there either;
    # whether another run has come meanwhile, the next check tells.
    with contextlib.suppress(UserError):
      if _is_mine(_read(workdir), mine):
        beats += 1
        _write(workdir, mine, beats)


def _check(workdir: Any, mine: Mapping[str, Any]) -> None:
  found = _read(workdir)
  if not _is_mine(found, mine):
    by = f"by another run ({_who(found)})" if found else "away"
    raise UserError(f"--workdir {workdir}: its lock was taken {by}")


def _is_mine(found: Mapping[str, Any] | None, mine: Mapping[str, Any]) -> bool:
  return found is not None and found.get("run") == mine["run"]


def _who(found: Mapping[str, Any]) -> str:
  return f"process {found.get('process')} on {found.get('host')}"


def _read(workdir: Any) -> Mapping[str, Any] | None:
  try:
    found = json.loads(paths.read_bytes(workdir / NAME))
  except FileNotFoundError:
    return None
  except UserError:
    raise
  except ValueError:
    found = None
  return found if isinstance(found, dict) else {}


def _write(workdir: Any, mine: Mapping[str, Any], beats: int) -> None:
  entry = {**mine, "beats": beats}
  paths.write_bytes(workdir / NAME, json.dumps(entry).encode())
