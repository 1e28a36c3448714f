"""The words of a text, and which tokens they begin at."""

import bisect
import dataclasses
import itertools
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import numpy as np

from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.inputs import fields, rows
from bert_jax.tasks.inputs.inputs import Inputs
from bert_jax.tasks.inputs.rows import PREFIX, Row
from bert_jax.text.tokenizer import Encoding, Tokenizer


@dataclasses.dataclass(frozen=True)
class Words(Inputs):
  """The words of a text, in chunks where it is longer than the longest row.

  The field is `words`, a list of texts, or else `text`, which is split. The
  arrays of an example, one entry a token, are 0 except at the first tokens of
  the words that the row predicts:

    inputs/word_weights: float32, 1.
    inputs/starts: int32, the word's first character in the text; of given
      words, its index.
    inputs/ends: int32, one past the last.
  """

  FIELDS = ("words",)
  PREDICTION = ("words", "text")
  LISTS = ("words",)
  GROUP = "words"
  ARRAYS: ClassVar = {
    "word_weights": np.float32,
    "starts": np.int32,
    "ends": np.int32,
  }

  def rows(
    self, record: Record, tokenizer: Tokenizer, config: EncoderConfig
  ) -> list[Row]:
    if record.get("words") is not None:
      given = fields.texts(record, "words")
      encoding = tokenizer.encode(" ".join(given))
      found = locate(given, encoding, tokenizer)
    else:
      text = fields.text(record, "text")
      encoding = tokenizer.encode(text)
      found = find(text, encoding, tokenizer)
    made = []
    for chunk in rows.chunks(encoding, tokenizer.special, self.limit(config)):
      own = [word for word in found if word.piece - chunk.shift in chunk.own]
      firsts = [word.piece - chunk.shift for word in own]
      arrays = {
        PREFIX + name: np.zeros(len(chunk.encoding.ids), dtype)
        for name, dtype in self.ARRAYS.items()
      }
      arrays[f"{PREFIX}word_weights"][firsts] = 1
      arrays[f"{PREFIX}starts"][firsts] = [word.start for word in own]
      arrays[f"{PREFIX}ends"][firsts] = [word.end for word in own]
      made.append(Row(rows.example(chunk.encoding, arrays)))
    return made


def source_text(record: Record, start: int, end: int) -> str:
  """The text of some words: characters, or indices of given words."""
  if record.get("words") is not None:
    return " ".join(record["words"][start:end])
  return record["text"][start:end]


@dataclasses.dataclass(frozen=True)
class Tokens(Inputs):
  """The tokens of a text, in chunks where it is longer than the longest row.

  The field is `text`. The arrays of an example, one entry a token:

    inputs/starts: int32, the token's first character in the text.
    inputs/ends: int32, one past its last.
    inputs/own: bool, whether the row predicts the token.
  """

  ARRAYS: ClassVar = {"starts": np.int32, "ends": np.int32, "own": bool}

  def rows(
    self, record: Record, tokenizer: Tokenizer, config: EncoderConfig
  ) -> list[Row]:
    encoding = tokenizer.encode(fields.text(record, "text"))
    return [
      Row(rows.example_with_offsets(chunk.encoding, "own", chunk.own))
      for chunk in rows.chunks(encoding, tokenizer.special, self.limit(config))
    ]


class Word(NamedTuple):
  """A word of a text.

  Attributes:
    piece: the position of its first token in the encoding.
    start: its first character, or its index.
    end: one past the last.
  """

  piece: int
  start: int
  end: int


def find(text: str, encoding: Encoding, tokenizer: Tokenizer) -> list[Word]:
  """The words of a text, by white space and by the tokens' continuations.

  White space alone is no word, though there are tokens for it. A space may be
  a token before its word; the label is then that of the space.
  """
  words: list[Word] = []
  end = 0
  for piece in rows.pieces(encoding, tokenizer.special):
    start, stop = encoding.offsets[piece]
    # Two tokens of one character always belong to one word.
    continues = start < end or tokenizer.continuations[encoding.ids[piece]]
    if text[start:stop].isspace() and (continues or stop - start > 1):
      continue
    if words and continues and not any(map(str.isspace, text[end:start])):
      words[-1] = words[-1]._replace(end=stop)
    else:
      words.append(Word(piece, start, stop))
    end = stop
  return [
    word._replace(start=word.end - len(text[word.start : word.end].lstrip()))
    for word in words
    if text[word.start : word.end].strip()
  ]


def locate(
  given: Sequence[str], encoding: Encoding, tokenizer: Tokenizer
) -> list[Word]:
  """Given words, in the encoding of a text that joins them by spaces.

  Start and end are a word's index and the next. A word without tokens, such
  as one of control characters only, is left out.
  """
  text = " ".join(given)
  begins = [0, *itertools.accumulate(len(word) + 1 for word in given)][:-1]
  words: list[Word] = []
  for piece in rows.pieces(encoding, tokenizer.special):
    start, stop = encoding.offsets[piece]
    # A token may stand for the space before a word too, or for it alone.
    start = stop - len(text[start:stop].lstrip())
    index = bisect.bisect_right(begins, start) - 1
    if not words or words[-1].start < index:
      words.append(Word(piece, index, index + 1))
  return words
