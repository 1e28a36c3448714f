"""Documents from text files: plain text or JSON lines, optionally gzip'd.

Opening reads each file once and indexes the start of a document about every
megabyte, so the index is small for any size of text. Reading a document parses
the megabyte that contains it, which is cached for its neighbours.
"""

import copy
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from bert_jax.data.sources import files as files_lib
from bert_jax.settings import UserError
from bert_jax.storage import paths as paths_lib

DOCUMENTS = ("blank_line", "line", "file")

_BLOCK = 1 << 20
# Longer documents are split, because a document has to fit in memory.
_LONGEST = 1 << 24
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
_BLANK_LINE_BYTES = re.compile(rb"\n[ \t\r\f\v]*\n")
_BLANK_LINE = re.compile(r"\n\s*\n")


class _Block(NamedTuple):
  """The location of a run of documents, and the lines and documents before."""

  file: int
  offset: int
  size: int
  line: int
  document: int


@dataclasses.dataclass(eq=False)
class TextFiles:
  """The documents of text files, by random access.

  `files` are names for messages, `paths` those of their decompressed text,
  local or in a store.
  """

  files: list[str]
  paths: list[str]
  documents: str
  field: str

  def __post_init__(self):
    self._blocks, document = [], 0
    self._here: dict[int, pathlib.Path] = {}
    for file, name in enumerate(self.files):
      line = 0
      split = self._split(file)
      for offset, data in _blocks(self._path(file), self._unit(file), name):
        self._blocks.append(_Block(file, offset, len(data), line, document))
        document += len(split(data))
        line += data.count(b"\n")
    self._length = document
    self._starts = np.array(
      [block.document for block in self._blocks], np.int64
    )
    self._parsed: tuple[_Block, list[str]] = (_Block(0, 0, 0, 0, 0), [])

  def __getstate__(self) -> dict[str, Any]:
    # Another machine downloads its own copies, of the files that it reads.
    return self.__dict__ | {"_here": {}}

  def moved(self, folder: pathlib.Path, where: str) -> "TextFiles":
    """The same documents after the files of `folder` were copied to `where`."""
    other = copy.copy(self)
    other.paths = [
      f"{where}/{pathlib.Path(path).name}"
      if pathlib.Path(path).parent == folder
      else path
      for path in self.paths
    ]
    return other

  def __len__(self) -> int:
    """The number of documents."""
    return self._length

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    """A document as {"text", "replaced_bytes"} and the fields of a JSON line.

    Raises:
      IndexError: there is no such document.
      UserError: a JSON line is malformed or has no text.
    """
    if not 0 <= index < len(self):
      raise IndexError(f"document {index} of {len(self)}")
    block, texts = self._parsed
    if not block.document <= index < block.document + len(texts):
      number = int(np.searchsorted(self._starts, index, side="right")) - 1
      block = self._blocks[number]
      with self._path(block.file).open("rb") as file:
        file.seek(block.offset)
        texts = self._split(block.file)(file.read(block.size))
      self._parsed = block, texts
    text = texts[index - block.document]
    text, replaced = files_lib.replace_surrogates(text)
    fields = {}
    if self._is_json(block.file):
      fields = self._fields(block, text)
      text, halves = files_lib.replace_surrogates(fields[self.field])
      replaced += halves
    return fields | {"text": text, "replaced_bytes": replaced}

  def _path(self, file: int) -> pathlib.Path:
    if file not in self._here:
      self._here[file] = paths_lib.local(self.paths[file])
    return self._here[file]

  def _is_json(self, file: int) -> bool:
    name = self.files[file].lower().removesuffix(".gz")
    return name.endswith(_JSON_SUFFIXES)

  def _unit(self, file: int) -> str:
    return "json_line" if self._is_json(file) else self.documents

  def _split(self, file: int) -> Any:
    return _SPLIT[self._unit(file)]

  def _fields(self, block: _Block, line: str) -> dict[str, Any]:
    """The fields of a JSON line, of which one is the text."""
    number, text = line.split(":", 1)
    where = f"{self.files[block.file]}:{block.line + int(number)}"
    try:
      fields = json.loads(text)
    except (ValueError, RecursionError) as error:
      raise UserError(
        f"{where}: expected one JSON object per line: {error}"
      ) from None
    if not isinstance(fields, dict) or self.field not in fields:
      known = ", ".join(sorted(fields)) if isinstance(fields, dict) else "none"
      raise UserError(
        f"{where}: has no field {self.field!r} (config.corpus.field); its"
        f" fields: {known}"
      )
    if not isinstance(fields[self.field], str):
      raise UserError(
        f"{where}: field {self.field!r} (config.corpus.field) is not text:"
        f" {str(fields[self.field])[:40]!r}"
      )
    return fields


def _text(data: bytes) -> str:
  """Decodes UTF-8; invalid bytes become lone surrogates."""
  text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
  return text.replace("\r\n", "\n").replace("\r", "\n")


def _texts(parts: list[str]) -> list[str]:
  return [part.strip("\n") for part in parts if part and not part.isspace()]


_SPLIT = {
  "blank_line": lambda data: _texts(_BLANK_LINE.split(_text(data))),
  "line": lambda data: _texts(_text(data).split("\n")),
  "file": lambda data: _texts([_text(data)]),
  # With the line number, for error messages.
  "json_line": lambda data: [
    f"{number}:{line}"
    for number, line in enumerate(_text(data).split("\n"), 1)
    if line and not line.isspace()
  ],
}


def _blocks(
  path: pathlib.Path, unit: str, name: str
) -> Iterator[tuple[int, bytes]]:
  """Splits a file between documents into blocks of about a megabyte."""
  offset, data = 0, b""
  with path.open("rb") as file:
    while more := file.read(_BLOCK):
      if not offset and not data:
        _check_text(more, name)
      data += more
      end = _last_boundary(data, unit)
      if not end and len(data) >= _LONGEST:
        if unit == "json_line":
          raise UserError(
            f"{name}: a line is longer than {_LONGEST >> 20} MiB; expected one"
            " JSON object per line"
          )
        end = _cut_within(data)
      if end:
        yield offset, data[:end]
        offset, data = offset + end, data[end:]
  if data:
    yield offset, data


def _last_boundary(data: bytes, unit: str) -> int:
  """The start of the last document in `data`; 0 if there is only one."""
  if unit == "file":
    return 0
  if unit == "blank_line":
    ends = [match.end() for match in _BLANK_LINE_BYTES.finditer(data)]
    return ends[-1] if ends else 0
  return data.rfind(b"\n") + 1


def _cut_within(data: bytes) -> int:
  """The position at which to split a document that is too long."""
  for end in (data.rfind(b"\n") + 1, data.rfind(b" ") + 1):
    if end > len(data) // 2:
      return end
  end = len(data)
  while end > len(data) - 4 and data[end - 1] & 0xC0 == 0x80:
    end -= 1
  return end - 1


def _check_text(start: bytes, name: str) -> None:
  """Raises a `UserError` for UTF-16, binary files and other encodings."""
  _, bad = files_lib.replace_surrogates(
    start.decode("utf-8", "surrogateescape")
  )
  if start.startswith((b"\xff\xfe", b"\xfe\xff")):
    what = "UTF-16"
  elif start.count(0) > len(start) // 10:
    what = "binary or UTF-16"
  elif bad > len(start) // 4:
    what = "binary or in another encoding"
  else:
    return
  raise UserError(
    f"{name}: looks {what}; expected UTF-8 text"
    " (convert it, or remove it from config.corpus.files)"
  )


def open_source(
  files: tuple[str, ...], documents: str, field: str, scratch: pathlib.Path
) -> TextFiles:
  """Opens text files as a source; see `SourceConfig`.

  Documents of more than 16 MiB are split, blank ones are dropped. `scratch` is
  a folder for decompressed copies of gzip'd files.

  Raises:
    UserError: no file matches, or one is not text or cannot be decompressed.
  """
  names = files_lib.find(files, "config.corpus.files")
  paths = [
    files_lib.decompressed(name, scratch / f"{number:06d}")
    for number, name in enumerate(names)
  ]
  # Worker processes may have another current directory.
  paths = [
    path if paths_lib.is_remote(path) else os.path.abspath(path)
    for path in paths
  ]
  return TextFiles(names, paths, documents, field)
