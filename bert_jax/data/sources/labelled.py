"""Rows of labelled records, and code shared by the readers of all formats."""

import contextlib
import dataclasses
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

from bert_jax import settings
from bert_jax.settings import UserError
from bert_jax.storage import paths

Record = Mapping[str, Any]
"""A record of a data set: a mapping from field names to values."""


class Row(NamedTuple):
  """A record and its location, for instance `train.tsv:12`."""

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
    section: the config key of these settings, for messages.
  """

  fields: tuple[str, ...]
  lists: frozenset[str] = frozenset()
  optional: frozenset[str] = frozenset()
  columns: Mapping[str, str | int] = dataclasses.field(default_factory=dict)
  header: bool = True
  separator: str = "|"
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
def open_text(path: str, newline: str = "\n") -> Iterator[TextIO]:
  r"""Opens a UTF-8 text file, optionally compressed by gzip.

  Skips a byte order mark. Lines end only with "\n" by default, because texts
  contain other line separators of Unicode. Bytes that are not UTF-8 become
  lone surrogates, which `check_text` finds.

  Raises:
    UserError: the file cannot be read, is damaged, or is not UTF-8 text.
  """
  try:
    with contextlib.ExitStack() as stack:
      data = stack.enter_context(paths.local(path).open("rb"))
      zipped = data.read(2) == b"\x1f\x8b"
      data.seek(0)
      if zipped:
        data = stack.enter_context(gzip.open(data))
      start = data.read(4096)
      if start.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in start:
        raise UserError(f"{path}: looks binary or UTF-16; expected UTF-8 text")
      data.seek(0)
      yield io.TextIOWrapper(data, "utf-8-sig", "surrogateescape", newline)
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise UserError(
      f"{path}: damaged or incomplete gzip file ({error})"
    ) from None
  except OSError as error:
    raise UserError(f"{path}: {error.strerror}") from None


def check_text(text: str) -> None:
  """Checks that a text has no lone surrogates.

  They come from bytes that are not UTF-8 (see `open_text`), or from JSON
  escapes of half a surrogate pair.

  Raises:
    RefusedError: the text has lone surrogates.
  """
  try:
    text.encode()
  except UnicodeEncodeError as error:
    code = ord(text[error.start])
    if 0xDC80 <= code <= 0xDCFF:
      reason = f"the byte 0x{code & 0xFF:02X} is not UTF-8 text"
    else:
      reason = f"\\u{code:04x} is half of a surrogate pair"
    raise RefusedError(reason) from None
