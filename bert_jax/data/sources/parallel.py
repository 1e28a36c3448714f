"""Reads parallel files: line n of each file is about sentence n.

SNIPS and ATIS are distributed in this format since Goo et al. (2018),
"Slot-Gated Modeling for Joint Slot Filling and Intent Prediction": a folder
with `seq.in` (words), `seq.out` (tags) and `label` (intent).
"""

import itertools
import os
import re
from collections.abc import Iterator, Mapping, Sequence

from bert_jax.data.sources import labelled
from bert_jax.data.sources.labelled import BadRow, Layout, Record, Row
from bert_jax.settings import UserError
from bert_jax.storage import paths as paths_lib

FILES: Mapping[str, str] = {
  "words": "seq.in",
  "text": "seq.in",
  "tags": "seq.out",
  "label": "label",
}
# Unlike str.split, does not split at no-break spaces, which words contain.
_WORD = re.compile("[^ \t\r\n]+")


def read(paths: Sequence[str], layout: Layout) -> Iterator[Row | BadRow]:
  """Yields one record per line; lists are split at spaces and tabs.

  Lines that are blank in all files are ignored.

  Args:
    paths: a folder, or the files of the fields in their order.
    layout: the fields; in a folder their columns are file names.

  Raises:
    UserError: a file cannot be read, or the files differ in length.
  """
  files = _files(paths, layout)
  first = next(iter(files.values()))
  lines = {
    field: _lines(path, layout.encoding) for field, path in files.items()
  }
  rows = itertools.zip_longest(*lines.values(), fillvalue="")
  for number, row in enumerate(rows, 1):
    for field in files:
      if number > len(lines[field]) and any(row):
        raise UserError(
          f"{files[field]}: has {len(lines[field])} lines, but the longest of"
          f" the files has {max(map(len, lines.values()))}; expected as many as"
          f" in {first}"
        )
    if any(row):
      texts = dict(zip(files, row))
      yield labelled.row(f"{first}:{number}", _record, texts, layout)


def folder_files(folder: str, columns: Mapping[str, str | int]) -> list[str]:
  """The existing files of a folder that can hold fields."""
  names = {*FILES.values(), *map(str, columns.values())}
  folder = paths_lib.local(folder)
  paths = (os.path.join(folder, name) for name in sorted(names))
  return [path for path in paths if os.path.isfile(path)]


def _files(paths: Sequence[str], layout: Layout) -> dict[str, str]:
  """The file of each field."""
  if len(paths) > 1 or not paths_lib.is_folder(paths[0]):
    fields = layout.in_order(len(paths))
    if fields is None:
      raise UserError(
        f"{layout.section}.format: parallel files: expected a folder, or a file"
        f" for each of {', '.join(layout.fields)}; got {', '.join(paths)}"
      )
    return dict(zip(fields, paths))
  folder = str(paths_lib.local(paths[0]))
  files = {}
  for field in layout.fields:
    column = layout.column(field)
    name = FILES.get(field, field) if column is None else str(column)
    path = os.path.join(folder, name)
    if os.path.isfile(path) or field not in layout.optional:
      files[field] = path
    if not os.path.isfile(path) and field not in layout.optional:
      known = sorted(os.listdir(folder)) or ["none"]
      raise UserError(
        f"{layout.section}.columns.{field}: {folder} has no file {name!r}; its"
        f" files: {', '.join(known[:20])} (to read them separately: {folder}/*)"
      )
  return files


def _lines(path: str, encoding: str) -> list[str]:
  with labelled.open_text(path, encoding=encoding) as file:
    return [line.strip(" \t\r\n") for line in file]


def _record(texts: Mapping[str, str], layout: Layout) -> Record:
  record = {}
  for field, text in texts.items():
    labelled.check_text(text)
    if not text:
      raise labelled.RefusedError(f"no {field} on this line")
    record[field] = _WORD.findall(text) if field in layout.lists else text
  counts = {f: len(record[f]) for f in ("words", "tags") if f in record}
  if len(set(counts.values())) > 1:
    raise labelled.RefusedError(
      "expected a tag for each word, got"
      f" {counts['words']} words and {counts['tags']} tags"
    )
  return record
