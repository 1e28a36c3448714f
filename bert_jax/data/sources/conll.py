"""Reads CoNLL files: labelled sentences with one word per line.

EU      NNP  B-ORG
rejects VBZ  O

Peter   NNP  B-PER
"""

import collections
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

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

_Split = Callable[[str], list[str]]
_Line = tuple[int, list[str]]


def read(path: str, layout: Layout) -> Iterator[Row | BadRow]:
  """Yields one record per sentence, with its `words` and their `tags`.

  Columns are separated by tabs if most lines have one, else by spaces. Lines
  with -DOCSTART-, and comments, which begin with # and have another number of
  columns, are ignored.

  The columns of fields are numbers, by default the first for `words` and the
  last for `tags`. The location of a row is that of its first word.

  Raises:
    UserError: the file cannot be read, or a column does not exist.
  """
  split, width = _form(path)
  places = _places(path, width, layout)
  with labelled.open_text(path) as file:
    for sentence in _sentences(file, split, width):
      for number, cells in sentence:
        if reason := _wrong(cells, width, places, layout):
          yield BadRow(f"{path}:{number}", reason)
          break
      else:
        columns = zip(*(cells for _, cells in sentence))
        columns = list(map(list, columns))
        record = {field: columns[place] for field, place in places.items()}
        yield Row(f"{path}:{sentence[0][0]}", record)


def _form(path: str) -> tuple[_Split, int]:
  """The function that splits lines, and the number of columns."""
  with labelled.open_text(path) as file:
    words = (
      line
      for line in file
      if line.strip(_BLANK) and not line.startswith(("#", _DOCUMENT))
    )
    sample = list(itertools.islice(words, _SAMPLE))
  tabs = sum("\t" in line for line in sample) * 2 > len(sample)
  split = _at_tabs if tabs else _at_spaces
  widths = collections.Counter(len(split(line)) for line in sample)
  return split, widths.most_common(1)[0][0] if widths else 0


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


def _sentences(
  file: Iterable[str], split: _Split, width: int
) -> Iterator[list[_Line]]:
  """Yields the line numbers and columns of each sentence."""
  sentence = []
  for number, line in enumerate(itertools.chain(file, [""]), 1):
    if not line.strip(_BLANK) or line.startswith(_DOCUMENT):
      if sentence:
        yield sentence
      sentence = []
    elif not line.startswith("#") or len(split(line)) == width:
      sentence.append((number, split(line)))


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
