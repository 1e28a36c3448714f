"""Requests to stop: SIGTERM from a scheduler, Ctrl-C from a person."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator

import jax
from jax.experimental import multihost_utils

EXIT_CODE = 75
"""The exit code of a run that was asked to stop and saved its state.

It is `EX_TEMPFAIL` of sysexits.h: the same command goes on where it stopped.
"""

Asked = Callable[[int], bool]
"""From the number of updates done: whether to save and stop now.

It is to be asked after every update.
"""


class Interrupted(Exception):
  """A run stopped because it was asked to; its state is saved."""


@contextlib.contextmanager
def watch() -> Iterator[Asked]:
  """Tells whether the run is asked to stop; of several processes, any.

  A second Ctrl-C interrupts at once. Outside the main thread, where signals
  cannot be handled, one process alone is never asked.
  """
  if jax.process_count() > 1:
    with _interrupt_as(_terminate):
      # The runtime listens to SIGTERM, and finds a step that all stop after.
      yield multihost_utils.reached_preemption_sync_point
    return
  asked = threading.Event()
  with _interrupt_as(asked.set), _handled(signal.SIGTERM, asked.set):
    yield lambda done: asked.is_set()


def _terminate() -> None:
  os.kill(os.getpid(), signal.SIGTERM)


@contextlib.contextmanager
def _interrupt_as(action: Callable[[], object]) -> Iterator[None]:
  """Ctrl-C does this the first time, and interrupts at once the second."""

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
