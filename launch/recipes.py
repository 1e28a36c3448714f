"""Finds and loads recipes: Python files with `get_config()`."""

import difflib
import hashlib
import importlib
import importlib.util
import pathlib
import sys
import traceback
import types

from ml_collections import ConfigDict

# The folder of `configs/`: that of the checkout, or the installed package.
_ROOT = pathlib.Path(__file__).resolve().parents[1]


class RecipeError(Exception):
  """A recipe is missing or its code raised; the message is for the user."""


def load(name: str) -> ConfigDict:
  """Calls `get_config()` of FILE, or `get_config(ARGUMENT)` of FILE:ARGUMENT.

  Where there is no FILE in the working directory, it is looked for among the
  installed recipes: `configs/finetune/glue.py` works everywhere.

  Raises:
    RecipeError: there is no such file, its code raised, or it returned
      something other than a ConfigDict.
  """
  file, *arguments = name.split(":", 1)
  path = _find(file)
  try:
    config = _load_module(path).get_config(*arguments)
  except Exception as error:
    raise RecipeError(f"{_where(error, path)}: {_message(error)}") from error
  if not isinstance(config, ConfigDict):
    raise RecipeError(
      f"{file}: get_config() must return an ml_collections ConfigDict, got"
      f" {type(config).__name__}"
    )
  return config


def _find(file: str) -> pathlib.Path:
  for path in (pathlib.Path(file), _ROOT / file):
    if path.is_file():
      return path.resolve()
  known = [
    path.relative_to(_ROOT).as_posix()
    for path in (_ROOT / "configs").glob("*/[!_]*.py")
  ]
  close = difflib.get_close_matches(file, known, n=1)
  hint = f"; did you mean {close[0]!r}?" if close else ""
  raise RecipeError(f"{file}: no such file{hint}")


def _load_module(path: pathlib.Path) -> types.ModuleType:
  """Runs a file. In a package, it can import its neighbours relatively."""
  top = path
  while (top.parent / "__init__.py").is_file():
    top = top.parent
  if top == path:
    module = types.ModuleType("recipe")
    module.__file__ = str(path)
    exec(compile(path.read_bytes(), path, "exec"), module.__dict__)
    return module
  # Under another name: another folder may have a package `configs` too.
  name = f"recipes_{hashlib.sha256(str(top).encode()).hexdigest()[:12]}"
  spec = importlib.util.spec_from_file_location(
    name, top / "__init__.py", submodule_search_locations=[str(top)]
  )
  sys.modules[name] = importlib.util.module_from_spec(spec)
  # Bytecode would be out of date where a file changes twice in a second.
  writes_nothing, sys.dont_write_bytecode = sys.dont_write_bytecode, True
  try:
    spec.loader.exec_module(sys.modules[name])
    parts = path.relative_to(top).with_suffix("").parts
    return importlib.import_module(".".join((name, *parts)))
  finally:
    sys.dont_write_bytecode = writes_nothing
    # The next call reads the files anew.
    for module in [x for x in sys.modules if f"{x}.".startswith(f"{name}.")]:
      del sys.modules[module]


def _where(error: Exception, path: pathlib.Path) -> str:
  """The innermost line of the recipe that was reached."""
  if isinstance(error, SyntaxError):
    return f"{error.filename}:{error.lineno}"
  for frame in reversed(traceback.extract_tb(error.__traceback__)):
    if frame.filename == str(path):
      return f"{path}:{frame.lineno}"
  return str(path)


def _message(error: Exception) -> str:
  if isinstance(error, SyntaxError):
    return f"syntax error: {error.msg}"
  if isinstance(error, KeyError):
    return f"unknown key {error.args[0]}"
  lines = [line for line in str(error).splitlines() if line.strip()]
  return lines[-1].strip() if lines else type(error).__name__
