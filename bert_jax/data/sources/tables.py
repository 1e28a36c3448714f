"""Reads labelled records from TSV, CSV and lines of text."""

import ast
import csv
import re
from collections.abc import Iterator, Mapping, Sequence

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
  with labelled.open_text(path, encoding=layout.encoding) as file:
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
  with labelled.open_text(path, "", layout.encoding) as file:
    yield from _table(path, _csv_rows(file), layout)


def read_txt(path: str, layout: Layout) -> Iterator[Row | BadRow]:
  """Yields one record per line, with its `text`; blank lines are ignored.

  Raises:
    UserError: the file cannot be read, or a field is required that it lacks.
  """
  layout.only(("text",), "text files")
  with labelled.open_text(path, encoding=layout.encoding) as file:
    for number, line in enumerate(file, 1):
      if line.strip():
        yield labelled.row(f"{path}:{number}", _text, line)


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
  if layout.rest:
    used = {"", *places, *(names[place] for place in places.values())}
    places |= {name: n for n, name in enumerate(names) if name not in used}
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
      separator = layout.separator.strip() or None
      record[field] = _literal(cell) if separator else None
      if record[field] is None:
        items = cell.split(separator) if cell.strip() else []
        record[field] = [item.strip() for item in items]
    elif cell or field not in layout.optional:
      record[field] = cell
  return record


def _text(line: str) -> Record:
  labelled.check_text(line)
  return {"text": line.rstrip("\r\n")}


def _literal(cell: str) -> list | None:
  """The list that a cell holds as JSON or Python write it, or None.

  Other programs write lists to tables so: `['a', 'b']` or `[0, 1, 0]`.
  """
  cell = cell.strip()
  if not (cell.startswith("[") and cell.endswith("]")):
    return None
  # NumPy writes no commas.
  cell = re.sub(r"""(['"])\s+(['"])""", r"\1, \2", cell)
  if re.fullmatch(r"\[[\d.\s]+\]", cell):
    cell = f"[{', '.join(cell[1:-1].split())}]"
  try:
    found = ast.literal_eval(cell)
  except (ValueError, SyntaxError, RecursionError, MemoryError):
    return None
  is_texts = all(isinstance(item, str) for item in found)
  is_numbers = all(isinstance(item, int | float) for item in found)
  return found if is_texts or (is_numbers and len(found) > 1) else None
