"""Flags and error messages of all commands.

A command module has two functions and an entry point, `main(argv=None)`:

  def define(values): ...      # Defines its flags in `values`.
  def train(values): ...       # Runs; returns an exit code, or None for 0.

  main = functools.partial(cli.run, train, define)

Flags belong to one call: `main` can be called again with other arguments.
"""

import contextlib
import errno
import inspect
import logging
import os
import re
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags
from absl import logging as absl_logging
from absl.logging import converter

from bert_jax import settings

from . import process

if TYPE_CHECKING:
  from ml_collections import ConfigDict

_USER_ERROR = 2
_INTERRUPTED = 130
_USER_OS_ERRORS = {
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
_HELP = {"-h", "-help", "--help", "--helpshort", "--helpfull"}

# `bert_jax.cluster.processes`, once this process has joined the others.
_processes: types.ModuleType | None = None


class Values(flags.FlagValues):
  """The flags of one call: `values.workdir` is the value of --workdir."""

  def __init__(self, arguments: Sequence[str] = ()):
    """No flags yet; the arguments do not include the name of the program."""
    super().__init__()
    self.__dict__["argv"] = ["", *arguments]

  def define(
    self,
    name: str,
    meaning: str,
    kind: str = "string",
    default: Any = None,
    **options: Any,
  ) -> None:
    """Defines a flag by absl's `DEFINE_KIND`, with options of that."""
    getattr(flags, f"DEFINE_{kind}")(
      name, default, help=meaning, flag_values=self, **options
    )


def define_config(values: Values) -> None:
  """Defines `--config FILE[:ARGUMENT]` and `--config.KEY=VALUE` for any key.

  Keys and sections that the file lacks are accepted too: the dataclass of a
  section refuses keys that do not exist.
  """
  # Commands without a recipe run without it.
  from ml_collections import config_flags

  from . import recipes

  config_flags.DEFINE_config_file(
    "config",
    None,
    "The recipe: a Python file with get_config(). FILE:ARGUMENT passes it an"
    " argument; --config.KEY=VALUE changes a key. Recipes of the package, such"
    " as configs/finetune/glue.py:sst2, work from any folder.",
    flag_values=values,
    lock_config=False,
    accept_new_attributes=True,
    sys_argv=values.argv,
  )
  flags.mark_flag_as_required("config", values)
  values.define(
    "help_config",
    "Lists all keys of the recipe with type, default and meaning.",
    "bool",
    False,
  )
  values.define(
    "print_config",
    "Prints the value of every key of the recipe.",
    "bool",
    False,
  )
  values["config"].parser.parse = lambda name: _with_sections(
    recipes.load(name), values.argv
  )


def define_cluster(values: Values) -> None:
  """Defines the flags that locate the other processes of a run."""
  values.define("coordinator_address", "HOST:PORT of the first process.")
  values.define("num_processes", "The number of processes.", "integer")
  values.define("process_id", "The index of this process, from 0.", "integer")
  values.define(
    "heartbeat_seconds",
    "Seconds of silence after which a process counts as lost.",
    "integer",
    10,
  )


def join_cluster(values: Values) -> types.ModuleType:
  """Joins the other processes of the run; to be called before jax is used.

  Returns:
    The module `bert_jax.cluster.processes`.
  """
  global _processes
  # It imports jax, which the workers of other commands do without.
  from bert_jax.cluster import processes

  processes.join(
    processes.Cluster(
      values.coordinator_address,
      values.num_processes,
      values.process_id,
      values.heartbeat_seconds,
    )
  )
  _processes = processes
  return processes


def run(
  command: Callable[..., int | None],
  define: Callable[[Values], None],
  argv: Sequence[str] | None = None,
  takes_arguments: bool = False,
) -> int:
  """Parses a command line and runs a command.

  A `UserError`, a mistake in the flags or the config, a missing file and a
  full disk become one line `error: ...` on stderr and exit code 2. Errors of
  the program itself are raised.

  Args:
    command: called with the flags and, if `takes_arguments`, with the list of
      positional arguments; returns an exit code, or None for 0.
    define: defines the command's flags.
    argv: the arguments after the name of the program; None takes those of
      this process.
    takes_arguments: whether positional arguments are accepted.
  """
  global _processes
  process.end_imports()
  arguments = list(sys.argv[1:] if argv is None else argv)
  with _output():
    try:
      values = Values(arguments)
      define(values)
      values.define(
        "verbosity",
        "Log records to print: -2 errors, -1 warnings too, 0 infos, 1 all.",
        "integer",
        absl_logging.ERROR,
      )
      if _HELP & set(arguments):
        print(_help(inspect.getmodule(command), values))
        return 0
      rest = _parse(values)
      if rest and not takes_arguments:
        raise settings.UserError(
          f"unexpected argument {rest[0]!r}; flags start with --"
        )
      if _explains_config(values):
        print(_explanation(values))
        return 0
      absl_logging.set_verbosity(values.verbosity)
      logging.root.setLevel(converter.absl_to_standard(values.verbosity))
      return _guarded(command, values, *([rest] if takes_arguments else []))
    except settings.UserError as error:
      return _fail(str(error))
    except BrokenPipeError:
      # The reader of the output, such as `head`, has ended.
      sys.stdout = open(os.devnull, "w")  # noqa: SIM115
      return 1
    finally:
      _processes = None


def _guarded(command: Callable[..., int | None], *arguments: Any) -> int:
  try:
    return command(*arguments) or 0
  except settings.UserError:
    raise
  except KeyboardInterrupt:
    return _fail("interrupted", _INTERRUPTED)
  except SystemExit:
    # Rich ends a program whose output is not read any more.
    if _processes:
      _processes.exit_alone(1)
    raise
  except Exception as error:
    if isinstance(error, OSError) and error.errno in _USER_OS_ERRORS:
      return _fail(str(error))
    if _processes and (message := _processes.lost(error)):
      from bert_jax.cluster import interruption

      return _fail(message, interruption.EXIT_CODE)
    if _processes and _processes.has_joined():
      try:
        traceback.print_exc()
      finally:
        _processes.exit_alone(1)
    raise


def _fail(message: str, code: int = _USER_ERROR) -> int:
  try:
    sys.stdout.flush()
    print("error:", " ".join(message.split()), file=sys.stderr)
  finally:
    # Even where the disk of the log is full: the other processes wait.
    if _processes:
      _processes.exit_alone(code)
  return code


@contextlib.contextmanager
def _output() -> Iterator[None]:
  """Prints warnings and log records in one line each, during one call."""
  handler = logging.StreamHandler()
  handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
  level, verbosity = logging.root.level, absl_logging.get_verbosity()
  formatwarning = warnings.formatwarning
  logging.root.addHandler(handler)
  warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
  try:
    yield
  finally:
    warnings.formatwarning = formatwarning
    logging.root.removeHandler(handler)
    absl_logging.set_verbosity(verbosity)
    logging.root.setLevel(level)


def _help(module: types.ModuleType | None, values: Values) -> str:
  """The docstring of a command and a list of its flags."""
  lines = [inspect.getdoc(module) or "", "", "flags:"]
  for flag in (values[name] for name in values):
    if flag.default is None or flag.name == "verbosity":
      default = ""
    else:
      default = f" (default: {flag.default_as_str.strip(chr(39))})"
    lines.append(f"  --{'[no]' if flag.boolean else ''}{flag.name}")
    lines.append(flags.text_wrap(flag.help + default, 80, "    "))
  return "\n".join(lines)


def _parse(values: Values) -> list[str]:
  """Parses the flags and returns the positional arguments.

  Raises:
    UserError: a mistake in the flags or in the config file.
  """
  try:
    return values(values.argv)[1:]
  except flags.Error as error:
    missing = re.search(r"Flag --(\w+) must have a value", str(error))
    if missing and values.is_parsed() and _explains_config(values):
      return []
    message = f"--{missing[1]}: missing; see --help" if missing else error
    raise settings.UserError(str(message)) from None
  # Of a recipe, or of ml_collections where a key cannot be set.
  except Exception as error:
    raise settings.UserError(f"--config: {error}") from None


def _explains_config(values: Values) -> bool:
  """Whether the config is explained instead: other flags may be missing."""
  if "config" not in values:
    return False
  return values.help_config or (values.print_config and values.config)


def _explanation(values: Values) -> str:
  """The text of --help_config or --print_config."""
  # It imports jax.
  from . import config_reference

  config = values.config.to_dict() if values.config else None
  if values.help_config:
    return config_reference.help_text(config)
  return config_reference.resolved_text(config)


def _with_sections(
  config: "ConfigDict", arguments: Sequence[str]
) -> "ConfigDict":
  """The config, with an empty section for each that the flags name."""
  from ml_collections import ConfigDict

  for argument in arguments:
    found = re.match(r"--?(?:no)?config\.([\w.]+)\.", argument)
    section = config
    for name in found[1].split(".") if found else ():
      if not isinstance(section, ConfigDict):
        break  # A value: setting a key of it raises later.
      if name not in section:
        section[name] = ConfigDict()
      section = section[name]
  return config
