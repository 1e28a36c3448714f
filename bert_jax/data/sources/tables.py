"""Reads labelled records from TSV, CSV and JSON lines."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bert_jax.data.sources import labelled
from bert_jax.data.sources.labelled import BadRow, Layout, Record, Row
from bert_jax.settings import UserError

# The line number of a row and its cells, or the reason why it is malformed.
_Cells = tuple[int, list[str] | labelled.RefusedError]

# The largest limit that csv accepts on systems with a C long of 32 bits.
_LONGEST = 2**31 - 1


def read_tsv(path: str, layout: Layout) -> Iterator[Row | BadRow]:
  """Yields one record per line of tab-separated cells, without quoting.

  Lines end with LF or CR LF; empty ones are ignored.

  Raises:
    UserError: the file cannot be read, or lacks a column.
  """
  with labelled.open_text(path) as file:
    lines = (line.removesuffix("\n").removesuffix("\r") for line in file)
    rows = (
      (number, line.split("\t")) for number, line in enumerate(lines, 1) if line
    )
    yield from _table(path, rows, layout)


def read_csv(path: str, layout: Layout) -> Iterator[Row | BadRow]:
  """Yields one record per row of comma-separated values (RFC 4180).

  The location of a row is its first line.

  Raises:
    UserError: the file cannot be read, or lacks a column.
  """
  csv.field_size_limit(_LONGEST)
  with labelled.open_text(path, newline="") as file:
    yield from _table(path, _csv_rows(file), layout)


def read_jsonl(path: str, layout: Layout) -> Iterator[Row | BadRow]:
  """Yields one record per line with a JSON object; blank lines are ignored.

  The columns of fields are keys, `a.b` for nested ones.

  Raises:
    UserError: the file cannot be read, or a column is a number.
  """
  columns = {}
  for field in layout.fields:
    column = layout.column(field)
    columns[field] = field if column is None else column
    if isinstance(column, int):
      raise UserError(
        f"{layout.section}.columns.{field}: expected a key of JSON objects,"
        f" got {column!r}"
      )
  with labelled.open_text(path) as file:
    for number, line in enumerate(file, 1):
      if line.strip():
        yield labelled.row(f"{path}:{number}", _object, line, columns, layout)


def _csv_rows(file: Iterator[str]) -> Iterator[_Cells]:
  reader = csv.reader(file, strict=True)
  while True:
    number = reader.line_num + 1
    try:
      cells = next(reader)
    except StopIteration:
      return
    except csv.Error as error:
      cells = labelled.RefusedError(
        f"malformed CSV; check the quotes ({error})"
      )
    if cells:
      yield number, cells


def _table(
  path: str, rows: Iterator[_Cells], layout: Layout
) -> Iterator[Row | BadRow]:
  """Converts rows of cells to records, by the header or the first row."""
  width, places = 0, None
  for number, cells in rows:
    where = f"{path}:{number}"
    if isinstance(cells, labelled.RefusedError):
      yield BadRow(where, str(cells))
      continue
    if places is None:
      width = len(cells)
      find = _named if layout.header else _numbered
      places = find(path, cells, layout)
      if layout.header:
        continue
    yield labelled.row(where, _record, cells, width, places, layout)


def _named(path: str, header: Sequence[str], layout: Layout) -> dict[str, int]:
  """The column numbers of the fields, by the header."""
  try:
    labelled.check_text("".join(header))
  except labelled.RefusedError as error:
    raise UserError(f"{path}: the header: {error}") from None
  names = [name.strip() for name in header]
  places = {}
  for field in layout.fields:
    column = layout.column(field)
    if column is None and field not in names and field in layout.optional:
      continue
    column = field if column is None else column
    if isinstance(column, int) and -len(names) <= column < len(names):
      places[field] = column
    elif column not in names:
      error = layout.unknown(field, path, "column", names)
      raise UserError(f"{error} (no header? set {layout.section}.header=False)")
    elif names.count(column) > 1:
      raise UserError(
        f"{layout.section}.columns.{field}: {path} has the column"
        f" {column!r} {names.count(column)} times; use its number"
      )
    else:
      places[field] = names.index(column)
  return places


def _numbered(
  path: str, cells: Sequence[str], layout: Layout
) -> dict[str, int]:
  """The column numbers of the fields without a header."""
  width = len(cells)
  places = {field: layout.number(field) for field in layout.fields}
  if all(place is None for place in places.values()):
    fields = layout.in_order(width)
    if fields is None:
      raise UserError(
        f"{layout.section}.columns: {path} has {width} columns and no header;"
        f" set the column numbers of the fields {', '.join(layout.fields)}"
      )
    return {field: place for place, field in enumerate(fields)}
  for field, place in places.items():
    if place is None and field not in layout.optional:
      raise UserError(
        f"{layout.section}.columns.{field}: expected the number of its column,"
        f" because {path} has no header"
      )
    if place is not None and not -width <= place < width:
      known = list(map(str, range(width)))
      raise layout.unknown(field, path, "column", known)
  return {f: place for f, place in places.items() if place is not None}


def _record(
  cells: Sequence[str], width: int, places: Mapping[str, int], layout: Layout
) -> Record:
  if len(cells) != width:
    raise labelled.RefusedError(f"expected {width} columns, got {len(cells)}")
  record = {}
  for field, place in places.items():
    cell = cells[place]
    labelled.check_text(cell)
    if field in layout.lists:
      # A separator of spaces is any number of them.
      items = cell.split(layout.separator.strip() or None)
      record[field] = [item.strip() for item in items] if cell.strip() else []
    elif cell or field not in layout.optional:
      record[field] = cell
  return record


def _object(line: str, columns: Mapping[str, str], layout: Layout) -> Record:
  labelled.check_text(line)
  try:
    values = json.loads(line)
  except (ValueError, RecursionError) as error:
    raise labelled.RefusedError(
      f"expected one JSON object per line: {error}"
    ) from None
  if not isinstance(values, dict):
    raise labelled.RefusedError(
      f"expected one JSON object per line, got {line.strip():.40}"
    )
  if "\\u" in line:
    labelled.check_text(json.dumps(values, ensure_ascii=False))
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
  return record


def _value(values: Mapping[str, Any], column: str) -> Any:
  """The value of a key, or of a path `a.b`; None if it does not exist."""
  if column in values:
    return values[column]
  first, _, rest = column.partition(".")
  inner = values.get(first)
  return _value(inner, rest) if rest and isinstance(inner, dict) else None
