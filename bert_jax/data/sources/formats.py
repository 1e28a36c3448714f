"""The formats of labelled records.

To add a format, add a file here with a function `read(path, layout)`, and an
entry to `FILE_FORMATS`.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from bert_jax.data.sources import (
  conll,
  dialogues,
  json_records,
  parallel,
  squad,
  tables,
)
from bert_jax.data.sources import files as files_lib
from bert_jax.data.sources.labelled import BadRow, Layout, Row
from bert_jax.settings import UserError

_Rows = Iterator[Row | BadRow]


def _one(
  read: Callable[[str, Layout], _Rows],
) -> Callable[[Sequence[str], Layout], _Rows]:
  return lambda paths, layout: read(paths[0], layout)


FILE_FORMATS: Mapping[str, Callable[[Sequence[str], Layout], _Rows]] = {
  "tsv": _one(tables.read_tsv),
  "csv": _one(tables.read_csv),
  "txt": _one(tables.read_txt),
  "jsonl": _one(json_records.read_lines),
  "json": _one(json_records.read_document),
  "conll": _one(conll.read),
  "squad": _one(squad.read),
  "dialogues": _one(dialogues.read),
  "parallel": parallel.read,
}
"""Functions from paths and fields to rows. All but "parallel" take one path."""

FORMATS = (*FILE_FORMATS, "tfds")
"""The names of all formats."""

# The formats of suffixes that are not the name of one.
_SUFFIXES = {
  "text": "txt",
  "ndjson": "jsonl",
  "bio": "conll",
  "iob": "conll",
}


def find(
  given: Sequence[str], format_: str, section: str, key: str
) -> list[tuple[str, list[str]]]:
  """Pairs of a format and the paths that are read together.

  Without a format, the suffixes of the files are used. `key` is the key of
  `given` in the config section.

  Raises:
    UserError: a pattern matches no file, or a suffix is of no known format.
  """
  found, patterns = [], []
  for pattern in given:
    folders, _ = files_lib.matches(pattern, f"{section}.{key}")
    if folders and format_ in ("", "parallel"):
      found += [("parallel", [folder]) for folder in folders]
    else:
      patterns.append(pattern)
  if found and not patterns:
    return found
  key = f"{section}.{key}"
  if format_ == "parallel" and patterns:
    # Each pattern is the file of one field, so their order is kept.
    files = [files_lib.find((pattern,), key) for pattern in patterns]
    return [*found, ("parallel", [path for paths in files for path in paths])]
  files = files_lib.find(tuple(patterns), key)
  return found + [(format_ or _format(path, section), [path]) for path in files]


def _format(path: str, section: str) -> str:
  """The format of a file by its suffix."""
  suffix = os.path.splitext(path.lower().removesuffix(".gz"))[1][1:]
  found = _SUFFIXES.get(suffix, suffix)
  if found not in FILE_FORMATS:
    raise UserError(
      f"{section}.format: the suffix of {path} is of no known format; set one"
      f" of {', '.join(FORMATS)}"
    )
  return found


def by_content(format_: str, path: str, layout: Layout) -> str:
  """The format of a file whose suffix alone does not tell it.

  Args:
    format_: the format of the suffix.
    path: the file.
    layout: the fields of its records.
  """
  if format_ in ("json", "jsonl"):
    is_one = json_records.is_document(path, format_, layout.encoding)
    return "json" if is_one else "jsonl"
  if format_ in ("tsv", "txt") and "words" in layout.fields:
    return "conll" if conll.is_conll(path, layout) else format_
  if format_ == "txt" and "turns" in layout.fields:
    return "dialogues" if dialogues.is_dialogues(path, layout) else format_
  return format_
