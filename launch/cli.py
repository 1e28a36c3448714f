"""What all mains share: flags, and a user's mistakes in one line."""

import errno
import re
import sys
import traceback
import types
import warnings
from collections.abc import Callable
from typing import Any

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from bert_jax import settings

_MISTAKE = 2
_INTERRUPTED = 130
_USERS_OS_ERRORS = {
  errno.EACCES,
  errno.EDQUOT,
  errno.EEXIST,
  errno.EFBIG,
  errno.EISDIR,
  errno.ENOENT,
  errno.ENOSPC,
  errno.ENOTDIR,
  errno.EPERM,
  errno.EROFS,
}


# The module that knows of the other processes, once they are joined.
_processes: types.ModuleType | None = None


def define_config() -> flags.FlagHolder:
  """Defines `--config FILE`, and `--config.key=value` for any key.

  A key or section that the file does not spell out can be given too: the
  dataclass that a section becomes knows which keys there are, and refuses the
  others.
  """
  holder = config_flags.DEFINE_config_file(
    "config",
    None,
    "The recipe, a file with get_config(); --config.key=value changes a key.",
    lock_config=False,
    accept_new_attributes=True,
  )
  flags.mark_flag_as_required("config")
  parser = flags.FLAGS["config"].parser
  load = parser.parse
  parser.parse = lambda path: _with_sections(load(path))
  return holder


def _with_sections(config: Any) -> Any:
  """The config, with an empty section for each that the flags name."""
  for argument in sys.argv:
    found = re.match(r"--?(?:no)?config\.([\w.]+)\.", argument)
    section = config
    for name in found[1].split(".") if found else ():
      if not isinstance(section, ConfigDict):
        break  # A value: that it has no keys is told when they are set.
      if name not in section:
        section[name] = ConfigDict()
      section = section[name]
  return config


def define_cluster() -> Callable[[], types.ModuleType]:
  """Defines the flags that say where the other processes of a run are.

  Returns:
    What joins them, and gives the module that knows of them; to be called
    before jax is used.
  """
  address = flags.DEFINE_string(
    "coordinator_address", None, "HOST:PORT of the first process."
  )
  count = flags.DEFINE_integer("num_processes", None, "How many there are.")
  index = flags.DEFINE_integer("process_id", None, "Which one this is, from 0.")
  heartbeat = flags.DEFINE_integer(
    "heartbeat_seconds", 10, "How long a silent process is waited for."
  )

  def join() -> types.ModuleType:
    global _processes
    # With jax, which the workers of other commands do without.
    from bert_jax.cluster import processes

    cluster = processes.Cluster(
      address.value, count.value, index.value, heartbeat.value
    )
    processes.join(cluster)
    _processes = processes
    return processes

  return join


def run(
  main: Callable[[list[str]], Any], takes_arguments: bool = False
) -> None:
  """Parses the flags, runs `main` and exits with what it returns.

  `main` gets the command line without its flags; unless it takes arguments,
  there may be none.

  A `UserError`, a mistake in the flags or the config, a file that is not
  there and a full disk end in `error: ...` on one line of stderr and the exit
  code 2; a mistake of ours in a traceback.
  """

  def guarded(argv: list[str]) -> Any:
    try:
      return main(argv)
    except settings.UserError as error:
      _fail(str(error))
    except KeyboardInterrupt:
      _fail("interrupted", _INTERRUPTED)
    except SystemExit:
      # Rich ends a program whose output nobody reads any more.
      if _processes:
        _processes.exit_alone(1)
      raise
    except Exception as error:
      if isinstance(error, OSError) and error.errno in _USERS_OS_ERRORS:
        _fail(str(error))
      if _processes and (told := _processes.lost(error)):
        from bert_jax.cluster import interruption

        _fail(told, interruption.EXIT_CODE)
      if _processes and _processes.has_joined():
        try:
          traceback.print_exc()
        finally:
          _processes.exit_alone(1)
      raise

  def parse(argv: list[str]) -> list[str]:
    rest = _parse(argv)
    if rest[1:] and not takes_arguments:
      _fail(f"unexpected argument {rest[1]!r}; options start with --")
    return rest

  warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
  app.run(guarded, flags_parser=parse)


def _fail(message: str, code: int = _MISTAKE) -> None:
  try:
    sys.stdout.flush()
    print("error:", " ".join(message.split()), file=sys.stderr)
  finally:
    # Even where the disk that the log is on is full: the others wait.
    if _processes:
      _processes.exit_alone(code)
  sys.exit(code)


def _parse(argv: list[str]) -> list[str]:
  """Parses the flags; a mistake in them or in the config file ends the run."""
  try:
    rest = flags.FLAGS(argv)
    _check_config()
  except flags.Error as error:
    # With a traceback in it where the config file's code raised.
    is_traced = "Traceback" in str(error)
    _fail(f"--config: {_last_line(error)}" if is_traced else str(error))
  # What a config file's own code raises is the user's, whatever its type.
  except Exception as error:
    _fail(f"--config: {_where(error)}{_last_line(error)}")
  if not flags.FLAGS["verbosity"].present:
    logging.set_verbosity(logging.ERROR)
  return rest


def _check_config() -> None:
  """Brings up what a config that was not loaded raises when it is used."""
  if "config" not in flags.FLAGS or flags.FLAGS.config is None:
    return
  if not hasattr(flags.FLAGS.config, "to_dict"):
    raise TypeError("get_config() must return an ml_collections ConfigDict")


def _where(error: Exception) -> str:
  """The line of the user's config that raised, if it was there."""
  frame = traceback.extract_tb(error.__traceback__)[-1]
  is_users = "ml_collections" not in frame.filename and (
    frame.filename != __file__ and not frame.filename.startswith("<")
  )
  return f"{frame.filename}:{frame.lineno}: " if is_users else ""


def _last_line(error: Exception) -> str:
  if isinstance(error, KeyError):
    return f"unknown key {error.args[0]}"
  lines = [line for line in str(error).splitlines() if line.strip()]
  return lines[-1].strip() if lines else type(error).__name__
