"""Which pieces of an encoded text make its words."""

import bisect
import itertools
from collections.abc import Sequence
from typing import NamedTuple

from bert_jax.tasks.common import rows
from bert_jax.text.tokenizer import Encoding, Tokenizer


class Found(NamedTuple):
  """A word of a text.

  Attributes:
    piece: the place of its first piece in the encoding.
    start: its first character, or its index.
    end: one past the last.
  """

  piece: int
  start: int
  end: int


def find(text: str, encoding: Encoding, tokenizer: Tokenizer) -> list[Found]:
  """The words of a text: what lies between white space, or the pieces say.

  White space alone is no word, though there are pieces for it. A single space
  may be split from the word that it is before; the label is then of its piece.
  """
  words: list[Found] = []
  end = 0
  for piece in rows.pieces(encoding, tokenizer.special):
    start, stop = encoding.offsets[piece]
    # Two pieces of one character are of one word whatever they are.
    continues = start < end or tokenizer.continuations[encoding.ids[piece]]
    if text[start:stop].isspace() and (continues or stop - start > 1):
      continue
    if words and continues and not _has_space(text[end:start]):
      words[-1] = words[-1]._replace(end=stop)
    else:
      words.append(Found(piece, start, stop))
    end = stop
  return [
    word._replace(start=word.end - len(text[word.start : word.end].lstrip()))
    for word in words
    if text[word.start : word.end].strip()
  ]


def _has_space(text: str) -> bool:
  return any(map(str.isspace, text))


def locate(
  given: Sequence[str], encoding: Encoding, tokenizer: Tokenizer
) -> list[Found]:
  """Given words, in the encoding of a text that joins them by spaces.

  Start and end are a word's index and the next. A word without pieces, such
  as one of control characters alone, is left out.
  """
  text = " ".join(given)
  begins = [0, *itertools.accumulate(len(word) + 1 for word in given)][:-1]
  words: list[Found] = []
  for piece in rows.pieces(encoding, tokenizer.special):
    start, stop = encoding.offsets[piece]
    # A piece may stand for the space before a word too, or for that alone.
    start = stop - len(text[start:stop].lstrip())
    index = bisect.bisect_right(begins, start) - 1
    if not words or words[-1].start < index:
      words.append(Found(piece, index, index + 1))
  return words
