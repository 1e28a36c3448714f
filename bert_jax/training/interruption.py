"""Requests to stop: SIGTERM from a scheduler, Ctrl-C from a person."""

import contextlib
import signal
import threading
from collections.abc import Iterator

EXIT_CODE = 75
"""The exit code of a run that was asked to stop and saved its state.

It is `EX_TEMPFAIL` of sysexits.h: the same command goes on where it stopped.
"""


class Interrupted(Exception):
  """A run stopped because it was asked to; its state is saved."""


@contextlib.contextmanager
def watch() -> Iterator[threading.Event]:
  """Gives an event that is set once the process is asked to stop.

  A second Ctrl-C interrupts at once. Outside the main thread, where signals
  cannot be handled, the event is never set.
  """
  asked = threading.Event()
  if threading.current_thread() is not threading.main_thread():
    yield asked
    return

  def ask(number, frame):
    asked.set()
    signal.signal(signal.SIGINT, signal.default_int_handler)

  old = {
    number: signal.signal(number, ask)
    for number in (signal.SIGTERM, signal.SIGINT)
  }
  try:
    yield asked
  finally:
    for number, handler in old.items():
      signal.signal(number, handler)
