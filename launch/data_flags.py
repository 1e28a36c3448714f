"""The flags that say how records are read: --format, --columns and so on."""

import re
from typing import Any

from bert_jax.data.sources import formats
from bert_jax.settings import UserError

from . import cli

_NAMES = (
  "format",
  "columns",
  "header",
  "separator",
  "encoding",
  "bad_rows",
  "dataset",
)


def define(values: cli.Values) -> None:
  """Defines the flags."""
  values.define(
    "format",
    f"{', '.join(formats.FORMATS)}; by default that of the files' suffix and"
    " content.",
  )
  values.define(
    "columns", "The column of each field: text=0,label=LABEL.", "list"
  )
  values.define(
    "header", "Whether the first line of a table names the columns.", "bool"
  )
  values.define("separator", "The separator of list items in a table's cell.")
  values.define("encoding", "That of the files, such as cp1252.")
  values.define("bad_rows", "fail or skip.")
  values.define("dataset", "A data set of TFDS.")


def changes(values: cli.Values) -> dict[str, Any]:
  """The fields of a section `config.data` that the flags give."""
  given = {name: getattr(values, name) for name in _NAMES}
  if values.columns is not None:
    given["columns"] = dict(map(_column, values.columns))
  return {name: value for name, value in given.items() if value is not None}


def arguments(values: cli.Values) -> list[str]:
  """The flags as they were given, for another command."""
  found = []
  for name in _NAMES:
    given = getattr(values, name)
    if given is not None:
      shown = ",".join(given) if isinstance(given, list) else given
      found.append(f"--{name}={shown}")
  return found


def in_flags(message: str, files: str) -> str:
  """A message with flags for keys of the config; `files` is for `eval`."""
  message = message.replace("config.data.eval", f"--{files}")
  return re.sub(rf"\bconfig\.data\.({'|'.join(_NAMES)})\b", r"--\1", message)


def _column(given: str) -> tuple[str, str | int]:
  field, _, column = given.partition("=")
  if not field or not column:
    raise UserError(f"--columns: expected FIELD=COLUMN, got {given!r}")
  is_number = column.removeprefix("-").isdecimal()
  return field, int(column) if is_number else column
