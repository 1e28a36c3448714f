"""The flags of writing text: the fields of `GenerationConfig`."""

import dataclasses
from typing import Any

from bert_jax.models.generation import GenerationConfig

from . import cli, docstrings

_KINDS = {int: "integer", float: "float", bool: "bool"}
_FIELDS = {field.name: field for field in dataclasses.fields(GenerationConfig)}


def define(values: cli.Values) -> None:
  """Defines the flags, but for those that the command has already."""
  for name, meaning in docstrings.meanings(GenerationConfig).items():
    if name not in values:
      kind = _KINDS[_FIELDS[name].type]
      values.define(name, f"Of tasks that write: {meaning}", kind)


def options(values: cli.Values) -> dict[str, Any]:
  """The options that the flags give."""
  given = {name: getattr(values, name) for name in _FIELDS}
  return {name: value for name, value in given.items() if value is not None}
