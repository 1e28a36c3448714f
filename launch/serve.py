"""Serves models over HTTP.

    bert-jax serve --model sentiment=exports/sentiment

NAME=WHERE names a model and its place: an export, or anything else that
`bert_jax.load` accepts; or a folder of versions, whose folders are named by a
number or a date. A new version that appears there is checked, and then takes
the requests. On CPUs, models that are no exports are exported to ONNX first.

The page at / shows the routes. SIGTERM stops the server once the accepted
requests are answered.
"""

import dataclasses
import functools
import os
import pathlib
import re
import subprocess
import sys
import types
import typing
from typing import Any

from bert_jax import settings
from bert_jax.serving import server
from bert_jax.serving.settings import ENGINES, ServeSettings
from bert_jax.settings import UserError

from . import cli, docstrings, process

_MODEL = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)=(.+)")
_KINDS = {int: "integer", float: "float", bool: "bool", str: "string"}


def define(values: cli.Values) -> None:
  """Defines the flags: one for each field of `ServeSettings`."""
  values.define(
    "model",
    "NAME=WHERE: a model and its place; may be repeated.",
    "multi_string",
    required=True,
  )
  meanings = docstrings.meanings(ServeSettings)
  hints = typing.get_type_hints(ServeSettings)
  for field in dataclasses.fields(ServeSettings):
    if field.name == "models":
      continue
    meaning = meanings[field.name]
    meaning = meaning[0].upper() + meaning[1:]
    kind, options = _KINDS.get(_plain(hints[field.name]), "list"), {}
    default: Any = field.default
    if field.name == "engine":
      kind, options = "enum", {"enum_values": list(ENGINES)}
    if kind == "list":
      default = list(default)
    values.define(field.name, meaning, kind, default, **options)


def _plain(hint: Any) -> Any:
  """The type of a hint, without None."""
  if isinstance(hint, types.UnionType):
    (hint,) = (x for x in typing.get_args(hint) if x is not types.NoneType)
  return hint


def _settings(values: cli.Values) -> ServeSettings:
  given: dict[str, Any] = {
    field.name: getattr(values, field.name)
    for field in dataclasses.fields(ServeSettings)
    if field.name != "models"
  }
  models: dict[str, str] = {}
  for text in values.model:
    found = _MODEL.fullmatch(text)
    if not found:
      raise UserError(
        f"--model {text}: expected NAME=WHERE, where NAME has letters, digits,"
        " points, hyphens and underscores"
      )
    if found[1] in models:
      raise UserError(f"--model: there are two models {found[1]}")
    models[found[1]] = found[2]
  try:
    return settings.from_dict(ServeSettings, {**given, "models": models}, "")
  except UserError as error:
    # The fields are flags.
    raise UserError("--" + str(error).lstrip(".")) from error


class _Export:
  """Exports models in processes of their own, whose memory is then free."""

  def __init__(self):
    self._process: subprocess.Popen | None = None

  def __call__(self, where: str, folder: pathlib.Path, runtime: str) -> None:
    """Exports a model to ONNX.

    Raises:
      UserError: it cannot be exported.
    """
    command = [sys.executable, "-m", f"{__package__}.export"]
    command += [f"--model={where}", "--to=onnx", f"--output={folder}"]
    command.append(f"--runtime={runtime}")
    path = os.pathsep.join(filter(None, sys.path))
    self._process = subprocess.Popen(
      command,
      env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"},
      stdin=subprocess.DEVNULL,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    _, errors = self._process.communicate()
    if self._process.returncode:
      lines = errors.strip().splitlines() or ["it was stopped"]
      raise UserError(
        f"{where}: cannot be exported: {lines[-1].removeprefix('error: ')}"
      )

  def stop(self) -> None:
    """Ends the process that exports now, if there is one."""
    if self._process is not None and self._process.poll() is None:
      self._process.kill()
      self._process.wait()


def serve(values: cli.Values) -> int:
  """Serves."""
  process.release_memory()
  return server.run(_settings(values), _Export())


main = functools.partial(cli.run, serve, define)

if __name__ == "__main__":
  sys.exit(main())
