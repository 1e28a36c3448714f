"""Commands called in the test's own process, and code in a new one."""

import contextlib
import importlib
import io
import logging
import os
import pathlib
import signal
import subprocess
import sys
import warnings
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[1]
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Result(NamedTuple):
  """What a command left: its exit code and its two outputs."""

  code: int
  out: str
  err: str


def run(command, *arguments, cwd=None):
  """Calls `launch.COMMAND` with these arguments, in a folder.

  The state of the process is as before afterwards. Processes that the command
  starts print to the outputs of the test.
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


def output(command, *arguments, cwd=None):
  """What a command prints, which must not fail."""
  code, out, err = run(command, *arguments, cwd=cwd)
  assert code == 0, err
  return out


def mistake(command, *arguments, cwd=None):
  """The one line in which a command tells of a mistake of the user."""
  code, out, err = run(command, *arguments, cwd=cwd)
  assert (code, out) == (2, ""), err
  (line,) = err.splitlines()
  assert line.startswith("error: ")
  return line.removeprefix("error: ")


def python(code, *arguments, env=None, check=True):
  """Runs code in a new process; by default it must not fail."""
  done = subprocess.run(
    [sys.executable, "-c", code, *map(str, arguments)],
    cwd=ROOT,
    env=env,
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert not (check and done.returncode), done.stderr
  return done


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
