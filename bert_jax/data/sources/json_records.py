"""Reads labelled records from JSON: lines of objects, or one array of them."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from bert_jax.data.sources import labelled, squad
from bert_jax.data.sources.labelled import BadRow, Layout, Record, Row
from bert_jax.settings import UserError

# A longer first line is that of a file with one JSON value.
_LONGEST_LINE = 1 << 20


def read_lines(path: str, layout: Layout) -> Iterator[Row | BadRow]:
  """Yields one record per line with a JSON object; blank lines are ignored.

  The columns of fields are keys, `a.b` for nested ones. Values are as in the
  file, with None for NaN, and with lone surrogates.

  Raises:
    UserError: the file cannot be read, or a column is a number.
  """
  columns = _columns(layout)
  with labelled.open_text(path, encoding=layout.encoding) as file:
    for number, line in enumerate(file, 1):
      if line.strip():
        yield labelled.row(f"{path}:{number}", _line, line, columns, layout)


def read_document(path: str, layout: Layout) -> Iterator[Row | BadRow]:
  """Yields one record per object of an array, or of an array under `data`.

  A file in SQuAD's format is read by `squad`. The location of a row is its
  index. Besides these, as `read_lines`.

  Raises:
    UserError: the file cannot be read, is not such JSON, or a column is a
      number.
  """
  value, place = labelled.read_json(path, layout.encoding), ""
  if squad.is_squad(value):
    yield from squad.rows(path, value, layout)
    return
  if isinstance(value, Mapping) and isinstance(value.get("data"), list):
    value, place = value["data"], "data"
  if not isinstance(value, list):
    raise UserError(
      f"{path}: expected an array of JSON objects, SQuAD's format, or one JSON"
      f" object per line; got {value!r:.40}"
    )
  columns = _columns(layout)
  for index, item in enumerate(value):
    where = f"{path}: {place}[{index}]"
    yield labelled.row(where, _record, item, columns, layout)


def is_document(path: str, suffix: str, encoding: str) -> bool:
  """Whether a file has one JSON value rather than one in each line.

  Args:
    path: the file.
    suffix: "json" or "jsonl": what its name says.
    encoding: see `labelled.open_text`.
  """
  with labelled.open_text(path, encoding=encoding) as file:
    line = ""
    while not line.strip() and (more := file.readline(_LONGEST_LINE)):
      line = more
  if suffix == "jsonl" or not line.strip():
    return line.lstrip().startswith("[")
  try:
    value = json.loads(line)
  except (ValueError, RecursionError):
    return True
  return not isinstance(value, dict) or isinstance(value.get("data"), list)


def _columns(layout: Layout) -> dict[str, str]:
  """The key of each field."""
  columns = {}
  for field in layout.fields:
    column = layout.column(field)
    if isinstance(column, int):
      raise UserError(
        f"{layout.section}.columns.{field}: expected a key of JSON objects,"
        f" got {column!r}"
      )
    columns[field] = field if column is None else column
  return columns


def _line(line: str, columns: Mapping[str, str], layout: Layout) -> Record:
  labelled.check_text(line)
  try:
    value = labelled.parse_json(line)
  except (ValueError, RecursionError) as error:
    raise labelled.RefusedError(
      f"expected one JSON object per line: {error}"
    ) from None
  return _record(value, columns, layout)


def _record(values: Any, columns: Mapping[str, str], layout: Layout) -> Record:
  if not isinstance(values, dict):
    raise labelled.RefusedError(
      f"expected one JSON object, got {json.dumps(values):.40}"
    )
  record = {}
  for field, column in columns.items():
    value = _value(values, column)
    if value is None and field in layout.optional:
      continue
    if value is None:
      known = ", ".join(values) or "none"
      raise labelled.RefusedError(
        f"has no field {column!r}; its fields: {known:.200}"
      )
    if field in layout.lists and not isinstance(value, list):
      raise labelled.RefusedError(
        f"field {column!r}: expected a list, got {value!r:.40}"
      )
    record[field] = value
  if layout.rest:
    used = {*columns, *columns.values()}
    record |= {name: x for name, x in values.items() if name not in used}
  return record


def _value(values: Mapping[str, Any], column: str) -> Any:
  """The value of a key, or of a path `a.b`; None if it does not exist."""
  if column in values:
    return values[column]
  first, _, rest = column.partition(".")
  inner = values.get(first)
  return _value(inner, rest) if rest and isinstance(inner, dict) else None
