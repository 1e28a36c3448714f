"""Reads CoNLL files: labelled sentences with one word per line.

EU      NNP  B-ORG
rejects VBZ  O

Peter   NNP  B-PER
"""

import collections
import itertools
import re
from collections.abc import (
  Callable,
  Collection,
  Iterable,
  Iterator,
  Mapping,
)
from typing import NamedTuple

from bert_jax.data.sources import labelled
from bert_jax.data.sources.labelled import BadRow, Layout, RefusedError, Row
from bert_jax.settings import UserError

_FIELDS = ("words", "tags")
# Unlike str.split, does not split at no-break spaces, which words contain.
_SPACES = re.compile("[ \t]+")
_BLANK = " \t\r\n"
_DOCUMENT = "-DOCSTART-"
# The number of lines that determine the format of a file.
_SAMPLE = 1000
# The share of lines that must have as many cells for a file to be CoNLL.
_SHARE = 0.9

_Line = tuple[int, list[str]]


class _Form(NamedTuple):
  """The columns of a file.

  Attributes:
    split: a function that splits a line into cells.
    width: the number of columns.
    tags: the cells of the last column, of lines that do not begin with #.
  """

  split: Callable[[str], list[str]]
  width: int
  tags: Collection[str]

  def is_comment(self, line: str, is_first: bool) -> bool:
    """Whether a line is a comment; `is_first`: no word was before it.

    A comment begins with # and has another number of columns. One that has as
    many begins with # and a space, and its last cell is no tag, unlike that of
    the word #.
    """
    if not line.startswith("#"):
      return False
    cells = self.split(line)
    if len(cells) != self.width:
      return True
    if self.split is _at_tabs:
      return cells[0].startswith("# ")
    return line[1:2] in (" ", "\t") and is_first and cells[-1] not in self.tags


def read(path: str, layout: Layout) -> Iterator[Row | BadRow]:
  """Yields one record per sentence, with its `words` and their `tags`.

  Columns are separated by tabs if most lines have one, else by spaces. Lines
  with -DOCSTART-, and comments, which begin with #, are ignored.

  The columns of fields are numbers, by default the first for `words` and the
  last for `tags`. The location of a row is that of its first word.

  Raises:
    UserError: the file cannot be read, or a column does not exist.
  """
  form = _form(path, layout.encoding)
  width = form.width
  places = _places(path, width, layout)
  with labelled.open_text(path, encoding=layout.encoding) as file:
    for sentence in _sentences(file, form):
      for number, cells in sentence:
        if reason := _wrong(cells, width, places, layout):
          yield BadRow(f"{path}:{number}", reason)
          break
      else:
        columns = zip(*(cells for _, cells in sentence))
        columns = list(map(list, columns))
        record = {field: columns[place] for field, place in places.items()}
        yield Row(f"{path}:{sentence[0][0]}", record)


def is_conll(path: str, layout: Layout) -> bool:
  """Whether a table or a text file is a CoNLL file rather.

  It has blank lines between sentences, of which some have several words, and
  as many cells in almost all lines. A table's header names the column of the
  words. Where records need no tags, lines of text are told by their last
  words: O is not among them.
  """
  form = _form(path, layout.encoding)
  with labelled.open_text(path, encoding=layout.encoding) as file:
    found = list(_sentences(itertools.islice(file, _SAMPLE), form))
  if form.width < 2 or len(found) < 2 or max(map(len, found)) < 2:
    return False
  rows = [cells for sentence in found for _, cells in sentence]
  if str(layout.column("words") or "words") in rows[0]:
    return False
  fit = sum(len(cells) == form.width for cells in rows)
  needs_tags = "tags" in layout.fields and "tags" not in layout.optional
  is_tagged = needs_tags or form.split is _at_tabs or "O" in form.tags
  return is_tagged and fit >= _SHARE * len(rows)


def _is_word(line: str) -> bool:
  return bool(line.strip(_BLANK))


def _form(path: str, encoding: str) -> _Form:
  with labelled.open_text(path, encoding=encoding) as file:
    words = (
      line
      for line in file
      if _is_word(line) and not line.startswith(("#", _DOCUMENT))
    )
    sample = list(itertools.islice(words, _SAMPLE))
    tabs = sum("\t" in line for line in sample) * 2 > len(sample)
    split = _at_tabs if tabs else _at_spaces
    tags = {split(line)[-1] for line in itertools.chain(sample, words)}
  widths = collections.Counter(len(split(line)) for line in sample)
  return _Form(split, widths.most_common(1)[0][0] if widths else 0, tags)


def _at_tabs(line: str) -> list[str]:
  return [cell.strip(" ") for cell in line.rstrip("\r\n").split("\t")]


def _at_spaces(line: str) -> list[str]:
  return _SPACES.split(line.strip(_BLANK))


def _places(path: str, width: int, layout: Layout) -> dict[str, int]:
  places = {}
  for field in layout.only(_FIELDS, "CoNLL files"):
    place = layout.number(field)
    if place is None:
      if field == "tags" and width == 1 and field in layout.optional:
        continue
      place = 0 if field == "words" else -1
    elif width and not -width <= place < width:
      known = list(map(str, range(width)))
      raise layout.unknown(field, path, "column", known)
    places[field] = place
  if not places:
    raise UserError(
      f"{layout.section}.format: CoNLL files have only the fields"
      f" {', '.join(_FIELDS)}, which this task does not use"
    )
  return places


def _sentences(file: Iterable[str], form: _Form) -> Iterator[list[_Line]]:
  """Yields the line numbers and columns of each sentence."""
  sentence = []
  for number, line in enumerate(itertools.chain(file, [""]), 1):
    if not _is_word(line) or line.startswith(_DOCUMENT):
      if sentence:
        yield sentence
      sentence = []
    elif not form.is_comment(line, not sentence):
      sentence.append((number, form.split(line)))


def _wrong(
  cells: list[str], width: int, places: Mapping[str, int], layout: Layout
) -> str | None:
  """The reason why a line is malformed, or None."""
  if len(cells) == 1 and "tags" in places:
    return f"the word {cells[0]!r:.40} has no tag"
  if len(cells) != width:
    return f"expected {width} columns, got {len(cells)}"
  for field, place in places.items():
    if not cells[place]:
      return f"column {place % width} is empty; expected one of the {field}"
    try:
      labelled.check_text(cells[place])
    except RefusedError as error:
      return str(error)
  return None
