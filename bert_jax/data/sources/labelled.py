"""Rows of labelled records, and code shared by the readers of all formats."""

import codecs
import contextlib
import dataclasses
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

from bert_jax import settings
from bert_jax.data.sources import files as files_lib
from bert_jax.settings import UserError
from bert_jax.storage import paths

# The longer ones first, since they begin with the others.
_MARKS = (
  (codecs.BOM_UTF32_LE, "utf-32"),
  (codecs.BOM_UTF32_BE, "utf-32"),
  (codecs.BOM_UTF16_LE, "utf-16"),
  (codecs.BOM_UTF16_BE, "utf-16"),
)

Record = Mapping[str, Any]
"""A record of a data set: a mapping from field names to values."""


class Row(NamedTuple):
  """A record and its location, for instance `train.tsv:12`.

  Texts from JSON may have lone surrogates (half of a pair), which tokenizers
  replace by U+FFFD.
  """

  where: str
  record: Record


class BadRow(NamedTuple):
  """The location of a malformed row, and the reason."""

  where: str
  reason: str


class RefusedError(ValueError):
  """A row is malformed; the message is the reason."""


@dataclasses.dataclass(frozen=True)
class Layout:
  """The fields of a record and their columns in a file.

  Attributes:
    fields: the fields of a record.
    lists: the fields that are lists.
    optional: the fields that a file or a row may lack.
    columns: maps fields to the columns in the config.
    header: whether the first line of a table names the columns.
    separator: the separator of list items in a cell.
    encoding: that of text files; see `open_text`.
    rest: whether records keep the named columns that are no fields.
    section: the config key of these settings, for messages.
  """

  fields: tuple[str, ...]
  lists: frozenset[str] = frozenset()
  optional: frozenset[str] = frozenset()
  columns: Mapping[str, str | int] = dataclasses.field(default_factory=dict)
  header: bool = True
  separator: str = "|"
  encoding: str = ""
  rest: bool = False
  section: str = "config.data"

  def __post_init__(self):
    for field in self.columns:
      settings.choice(
        f"{self.section}.columns", field, dict.fromkeys(self.fields)
      )

  def column(self, field: str) -> str | int | None:
    """The column of a field in the config; None for the format's default.

    A field mapped to its own name or to "" has the default, so that a recipe
    can list all fields for users to override.
    """
    column = self.columns.get(field, "")
    return None if column in ("", field) else column

  def number(self, field: str) -> int | None:
    """`column` for formats whose columns are numbers; else a `UserError`."""
    column = self.column(field)
    try:
      return None if column is None else int(column)
    except ValueError:
      raise UserError(
        f"{self.section}.columns.{field}: expected the number of a column, from"
        f" 0, because there is no header; got {column!r}"
      ) from None

  def only(self, known: Sequence[str], what: str) -> list[str]:
    """The fields that a format has; a `UserError` if it lacks one."""
    for field in self.fields:
      if field not in known and field not in self.optional:
        raise UserError(
          f"{self.section}.format: {what} have the fields {', '.join(known)},"
          f" but not {field!r}"
        )
    return [field for field in self.fields if field in known]

  def in_order(self, count: int) -> list[str] | None:
    """The fields of `count` columns without names.

    Omits the last optional fields; None if the count does not fit.
    """
    optional = [field for field in self.fields if field in self.optional]
    out = len(self.fields) - count
    if not 0 <= out <= len(optional):
      return None
    absent = optional[len(optional) - out :]
    return [field for field in self.fields if field not in absent]

  def unknown(
    self, field: str, place: str, what: str, known: Sequence[str]
  ) -> UserError:
    """The error for a column that does not exist; lists those that do."""
    column = self.columns.get(field) or field
    return UserError(
      f"{self.section}.columns.{field}: {place} has no {what} {column!r}; its"
      f" {what}s: {', '.join(f'{name:.40}' for name in known)}"
    )


def row(
  where: str, make: Callable[..., Record], *arguments: Any
) -> Row | BadRow:
  """The row of `make(*arguments)`, or a bad row if that raises RefusedError."""
  try:
    return Row(where, make(*arguments))
  except RefusedError as error:
    return BadRow(where, str(error))


@contextlib.contextmanager
def open_text(
  path: str, newline: str = "\n", encoding: str = ""
) -> Iterator[TextIO]:
  r"""Opens a text file, optionally compressed by gzip.

  Skips a byte order mark. Lines end only with "\n" by default, because texts
  contain other line separators of Unicode.

  Args:
    path: the file.
    newline: as that of `open`.
    encoding: a name that Python knows; empty for UTF-8, or UTF-16 or UTF-32
      where a byte order mark says so. Bytes that are not UTF-8 become lone
      surrogates, which `check_text` finds.

  Raises:
    UserError: the file cannot be read, is damaged, or is not text in this
      encoding.
  """
  try:
    with contextlib.ExitStack() as stack:
      data = stack.enter_context(paths.local(path).open("rb"))
      zipped = data.read(2) == b"\x1f\x8b"
      data.seek(0)
      if zipped:
        data = stack.enter_context(gzip.open(data))
      start = data.read(4096)
      found = encoding or next(
        (name for mark, name in _MARKS if start.startswith(mark)), ""
      )
      if not found and b"\0" in start:
        raise UserError(
          f"{path}: looks binary, or UTF-16 without a byte order mark; expected"
          " UTF-8 text"
        )
      data.seek(0)
      if found in ("", "utf-8"):
        yield io.TextIOWrapper(data, "utf-8-sig", "surrogateescape", newline)
      else:
        yield io.TextIOWrapper(data, found, newline=newline)
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise UserError(
      f"{path}: damaged or incomplete gzip file ({error})"
    ) from None
  except UnicodeDecodeError as error:
    raise UserError(
      f"{path}: is not text in the encoding {error.encoding}: {error.reason}"
    ) from None
  except OSError as error:
    raise UserError(f"{path}: {error.strerror}") from None


def check_text(text: str) -> None:
  """Checks that a text of `open_text` has no bytes that are not UTF-8.

  Raises:
    RefusedError: it has.
  """
  try:
    text.encode()
  except UnicodeEncodeError as error:
    code = ord(text[error.start])
    raise RefusedError(
      f"the byte 0x{code & 0xFF:02X} is not UTF-8 text; for files in another"
      " encoding, such as cp1252, set `encoding`"
    ) from None


def lines(path: str) -> list[str]:
  """The lines of a text file that are not blank, without white space around.

  Raises:
    UserError: the file cannot be read.
  """
  with open_text(path) as file:
    return [line.strip() for line in file if line.strip()]


def parse_json(text: str) -> Any:
  """A JSON value, with None for NaN, which some programs write for no value.

  Raises:
    ValueError: it is malformed.
    RecursionError: it is nested too deeply.
  """
  return json.loads(
    text, parse_constant=lambda x: None if x == "NaN" else float(x)
  )


def read_json(path: str, encoding: str = "") -> Any:
  """The JSON value that a file has; an empty list of an empty file.

  Raises:
    UserError: the file cannot be read, or is not JSON.
  """
  with open_text(path, encoding=encoding) as file:
    text = file.read()
  try:
    check_text(text)
    return parse_json(text) if text.strip() else []
  except (ValueError, RecursionError) as error:
    raise UserError(
      f"{path}: expected JSON: {error} (the suffix of JSON lines is .jsonl)"
    ) from None


def count_surrogates(value: Any) -> int:
  """The number of lone surrogates in the texts of a record, or of a value."""
  if isinstance(value, str):
    try:
      value.encode()
    except UnicodeEncodeError:
      return files_lib.replace_surrogates(value)[1]
  elif isinstance(value, Mapping):
    return sum(map(count_surrogates, value.values()))
  elif isinstance(value, list | tuple):
    return sum(map(count_surrogates, value))
  return 0
