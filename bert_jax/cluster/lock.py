"""The lock that keeps a second run out of a run's folder.

On a file system it is a file lock, which ends with the process. Object stores
have no locks: there the run rewrites an object every few seconds, its
heartbeat. A run that finds such an object watches it for a while. If it
changes, another run is alive; if not, that run is dead and its folder is free.
Only the watching run's clock is used, since clocks of machines may differ.
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
DEAD_SECONDS = 45.0  # Several heartbeats: a store may be slow for a while.
_SETTLE_SECONDS = 1.0  # Of two simultaneous writers both see the later one.

Check = Callable[[], None]
"""Raises UserError if another run has taken the folder."""


@contextlib.contextmanager
def held(workdir: Any) -> Iterator[Check]:
  """Locks a folder for this process.

  Args:
    workdir: a path as `paths.as_path` returns it.

  Yields:
    A check to be called before anything is written.

  Raises:
    UserError: another run uses the folder, or it cannot be created.
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
  thread.daemon = True  # It must not keep a failing process alive.
  thread.start()
  try:
    yield lambda: _check(workdir, mine)
  finally:
    over.set()
    thread.join()
    # If this fails, the next run sees that the heartbeat has stopped.
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
  """An id of this boot and PID namespace, in which process ids are unique."""
  try:
    boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"
  except OSError:
    return ""  # Not Linux: other processes cannot be looked up.


def _wait_until_free(workdir: Any, mine: Mapping[str, Any]) -> None:
  found = _read(workdir)
  if found is None or _is_gone(found, mine):
    return
  print(
    f"{workdir}: found the lock of another run ({_who(found)}); waiting"
    f" {DEAD_SECONDS:g} s to see whether that run is alive",
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
  """Whether a lock belongs to a process of this machine that has ended."""
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
    # While the store does not answer, nothing else can be written there; the
    # next check finds out whether another run has come.
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
