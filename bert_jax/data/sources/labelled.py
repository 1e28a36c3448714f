"""Rows of labelled records: what the readers of all formats share."""

import contextlib
import dataclasses
import gzip
import io
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

from bert_jax import settings
from bert_jax.storage import paths

Record = Mapping[str, Any]
"""A record of a data set: a plain mapping of named fields."""


class Row(NamedTuple):
  """A record and the place that it comes from, such as `train.tsv:12`."""

  where: str
  record: Record


class BadRow(NamedTuple):
  """A place that should hold a record, and why it holds none."""

  where: str
  reason: str


class RefusedError(ValueError):
  """A row is malformed; the message says why."""


@dataclasses.dataclass(frozen=True)
class Layout:
  """Which fields are wanted, and where a file has them.

  Attributes:
    fields: the fields of a record.
    lists: those that are lists.
    optional: those that a file or a row may lack.
    columns: from fields to the columns that the user names.
    header: whether the first line of a table names the columns.
    separator: what separates the items of a list in a table's cell.
    section: the config key of these settings.
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
    """The column that the user names, None for the format's own place.

    A field that is mapped to its own name, or to nothing, is at the format's
    own place: so a recipe can list the fields for its users to override.
    """
    column = self.columns.get(field, "")
    return None if column in ("", field) else column

  def number(self, field: str) -> int | None:
    """As `column`, where columns have only numbers.

    Raises:
      UserError: the user gives something else.
    """
    column = self.column(field)
    try:
      return None if column is None else int(column)
    except ValueError:
      raise settings.UserError(
        f"{self.section}.columns.{field}: expected the number of a column,"
        f" from 0, for there is no header; got {column!r}"
      ) from None

  def only(self, known: Sequence[str], what: str) -> list[str]:
    """The wanted fields, of those that a format has.

    Raises:
      UserError: the format lacks a field that is not optional.
    """
    for field in self.fields:
      if field not in known and field not in self.optional:
        raise settings.UserError(
          f"{self.section}.format: {what} have the fields {', '.join(known)},"
          f" and no {field!r}"
        )
    return [field for field in self.fields if field in known]

  def in_order(self, count: int) -> list[str] | None:
    """The fields that `count` columns without names hold.

    The last optional fields are those that are left out; None where no number
    of them fits.
    """
    optional = [field for field in self.fields if field in self.optional]
    out = len(self.fields) - count
    if not 0 <= out <= len(optional):
      return None
    absent = optional[len(optional) - out :]
    return [field for field in self.fields if field not in absent]

  def unknown(
    self, field: str, place: str, what: str, known: Sequence[str]
  ) -> settings.UserError:
    """The error for a column that is not there, with those that are."""
    column = self.columns.get(field) or field
    return settings.UserError(
      f"{self.section}.columns.{field}: {place} has no {what} {column!r}; its"
      f" {what}s: {', '.join(f'{name:.40}' for name in known)}"
    )


def row(
  where: str, make: Callable[..., Record], *arguments: Any
) -> Row | BadRow:
  """A row, or a bad one where `make(*arguments)` refuses the record."""
  try:
    return Row(where, make(*arguments))
  except RefusedError as error:
    return BadRow(where, str(error))


@contextlib.contextmanager
def open_text(path: str, newline: str = "\n") -> Iterator[TextIO]:
  r"""Opens UTF-8 text, gzip'd or not; a byte order mark is passed over.

  Lines end with "\n" alone, for Unicode knows further ends of lines that
  texts contain. Bytes that are not UTF-8 become lone surrogates, which
  `check_text` finds.

  Args:
    path: of the file.
    newline: as `open` has it.

  Raises:
    UserError: the file cannot be read, is damaged, or is no such text.
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
        raise settings.UserError(
          f"{path}: looks binary or UTF-16; expected UTF-8 text"
        )
      data.seek(0)
      yield io.TextIOWrapper(data, "utf-8-sig", "surrogateescape", newline)
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise settings.UserError(
      f"{path}: damaged or incomplete gzip file ({error})"
    ) from None
  except OSError as error:
    raise settings.UserError(f"{path}: {error.strerror}") from None


def check_text(text: str) -> None:
  """Refuses what is no text: bytes that were not UTF-8, half characters.

  Bytes come as `open_text` leaves them; JSON may spell out half a character.
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
