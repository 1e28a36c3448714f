"""Requests to stop: SIGTERM from a scheduler, or Ctrl-C."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

EXIT_CODE = 75
"""The exit code of a run that was asked to stop and saved its state.

It is `EX_TEMPFAIL` of sysexits.h: the same command resumes the run.
"""

ShouldStop = Callable[[int], bool]
"""From the number of updates done, after each: whether to save and stop."""


class Interrupted(Exception):
  """A run stopped because it was asked to; its state is saved."""


@contextlib.contextmanager
def watch() -> Iterator[ShouldStop]:
  """Watches for requests to stop, of any process of the run.

  A second Ctrl-C interrupts at once. Outside the main thread, where signals
  cannot be handled, a single process is never asked to stop.
  """
  if jax.process_count() > 1:
    with _interrupt_as(lambda: os.kill(os.getpid(), signal.SIGTERM)):
      # The runtime handles SIGTERM, and agrees on a step to stop after.
      yield multihost_utils.reached_preemption_sync_point
    return
  requested = threading.Event()
  with _interrupt_as(requested.set), _handled(signal.SIGTERM, requested.set):
    yield lambda done: requested.is_set()


@contextlib.contextmanager
def _interrupt_as(action: Callable[[], object]) -> Iterator[None]:
  """The first Ctrl-C runs the action, the second one interrupts at once."""

  def once() -> None:
    action()
    signal.signal(signal.SIGINT, signal.default_int_handler)

  with _handled(signal.SIGINT, once):
    yield


@contextlib.contextmanager
def _handled(number: int, action: Callable[[], object]) -> Iterator[None]:
  if threading.current_thread() is not threading.main_thread():
    yield
    return
  old = signal.signal(number, lambda *_: action())
  try:
    yield
  finally:
    signal.signal(number, old)
