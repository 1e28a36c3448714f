"""Commands called in the test's own process."""

import contextlib
import importlib
import io
import logging
import os
import pathlib
import signal
import sys
import warnings
from typing import NamedTuple

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Result(NamedTuple):
  """What a command left: its exit code and its two outputs."""

  code: int
  out: str
  err: str


def run(command, *arguments, cwd=None):
  """Calls `launch.COMMAND` with these arguments.

  What a command's own process would take with it (the working directory,
  environment variables, log handlers and levels, warning filters, signal
  handlers) is as before afterwards. Processes that the command starts print
  to the outputs of the test.

  Args:
    command: the name of a module in `launch`.
    *arguments: its command line.
    cwd: the folder it runs in.

  Returns:
    The exit code, the output and the error output.
  """
  module = importlib.import_module(f"launch.{command}")
  out, err = io.StringIO(), io.StringIO()
  with (
    _restored(),
    contextlib.chdir(pathlib.Path(cwd or ".")),
    contextlib.redirect_stdout(out),
    contextlib.redirect_stderr(err),
  ):
    code = module.main([str(argument) for argument in arguments])
  return Result(code, out.getvalue(), err.getvalue())


def _print_warning(message, category, filename, lineno, *_, **__):
  text = warnings.formatwarning(message, category, filename, lineno)
  sys.stderr.write(text)


@contextlib.contextmanager
def _restored():
  environment = dict(os.environ)
  signals = {number: signal.getsignal(number) for number in _SIGNALS}
  root = logging.root
  level, handlers = root.level, list(root.handlers)
  with warnings.catch_warnings():
    # As in a new process: warnings are printed, each the first time.
    warnings.showwarning = _print_warning
    warnings.resetwarnings()
    warnings.simplefilter("default")
    for category in (DeprecationWarning, ImportWarning, ResourceWarning):
      warnings.simplefilter("ignore", category)
    try:
      yield
    finally:
      os.environ.clear()
      os.environ.update(environment)
      for number, handler in signals.items():
        signal.signal(number, handler)
      root.setLevel(level)
      root.handlers[:] = handlers
