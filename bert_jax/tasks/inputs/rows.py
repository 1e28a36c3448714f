"""From encoded texts to rows of ids; a long text becomes several chunks."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bert_jax.batch import Batch
from bert_jax.settings import UserError
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.tokenizer import Encoding, SpecialIds, Tokenizer

STRIDE = 128
"""Tokens that a chunk shares with the one before, unless it is configured."""

PREFIX = "inputs/"
"""Begins the names of the inputs' arrays in `Batch.targets`."""

Arrays = Mapping[str, np.ndarray]


class Cut(NamedTuple):
  """A field of a record that did not fit into a row.

  Attributes:
    field: its name.
    tokens: the number of its tokens.
    kept: how many of them the row has.
  """

  field: str
  tokens: int
  kept: int


@dataclasses.dataclass(frozen=True, eq=False)
class Row:
  """One row of ids, and where its tokens come from.

  Attributes:
    example: the unbatched row, with the arrays of its inputs as targets.
    whole: the encoding that the row is a chunk of, or is.
    pieces: the positions in `whole` of the last text's tokens.
    shift: what to subtract from a position of the last text in `whole` for its
      position in the row.
    cuts: the fields that were cut, of inputs that count them.
  """

  example: Batch
  whole: Encoding | None = None
  pieces: range = range(0)
  shift: int = 0
  cuts: tuple[Cut, ...] = ()


def encode(
  tokenizer: Tokenizer, length: int, text: str, pair: str | None = None
) -> Encoding:
  """A text or a pair, truncated to `length` tokens with special tokens."""
  return tokenizers.truncate(
    tokenizer.encode(text, pair), length, tokenizer.special
  )


def example(encoding: Encoding, arrays: Arrays | None = None) -> Batch:
  """An unbatched example of the encoding's length."""
  length = len(encoding.ids)
  return Batch(
    token_ids=np.array(encoding.ids, np.int32),
    segment_ids=np.array(encoding.segments, np.int32),
    position_ids=np.arange(length, dtype=np.int32),
    sequence_ids=np.ones(length, np.int32),
    targets=dict(arrays or {}),
  )


def example_with_offsets(encoding: Encoding, mask: str, at: range) -> Batch:
  """An example with each token's offsets, and a mask of the tokens `at`."""
  offsets = np.array(encoding.offsets, np.int32)
  masked = np.zeros(len(offsets), bool)
  masked[list(at)] = True
  arrays = {"starts": offsets[:, 0], "ends": offsets[:, 1], mask: masked}
  return example(encoding, {PREFIX + name: x for name, x in arrays.items()})


def stacked_example(
  encodings: Sequence[Encoding], arrays: Arrays | None = None, texts: int = 0
) -> Batch:
  """Several texts as one example, whose id arrays are [texts, length].

  Args:
    encodings: of the texts, at least one; shorter ones are padded.
    arrays: the targets of the example.
    texts: empty texts are added up to this number, so that all training
      examples have the same shape but for their length.
  """
  made = [example(encoding) for encoding in encodings]
  shape = max(texts, len(made)), max(row.token_ids.size for row in made)

  def stack(name: str) -> np.ndarray:
    stacked = np.zeros(shape, np.int32)
    for text, row in zip(stacked, made):
      ids = getattr(row, name)
      text[: ids.size] = ids
    return stacked

  names = ("token_ids", "segment_ids", "position_ids", "sequence_ids")
  return Batch(*map(stack, names), dict(arrays or {}))


def dummy_example(
  arrays: Arrays | None = None, shape: tuple[int, ...] = (4,)
) -> Batch:
  """An example of zeros whose id arrays have this shape."""
  ids = np.zeros(shape, np.int32)
  return Batch(ids, ids, ids, ids, dict(arrays or {}))


class Span(NamedTuple):
  """A chunk of a long text, in tokens of that text.

  Each token is predicted in the chunk where it has the most context.

  Attributes:
    seen: the tokens of the chunk.
    own: the tokens that the chunk predicts.
  """

  seen: range
  own: range


def chunk_spans(count: int, size: int, stride: int) -> list[Span]:
  """Chunks that cover all tokens of a text; the last one is shorter.

  Args:
    count: the tokens of the text.
    size: the tokens of a chunk.
    stride: the tokens that a chunk shares with the one before, at most half of
      `size`.

  Raises:
    UserError: `size` is below 1.
  """
  if size < 1:
    raise UserError(
      "the model's longest sequence leaves no room for text between the"
      " special tokens"
    )
  step = size - min(stride, size // 2)
  made: list[Span] = []
  start = own_start = 0
  while True:
    end = min(start + size, count)
    own_end = count if end == count else (start + step + end) // 2
    made.append(Span(range(start, end), range(own_start, own_end)))
    if end == count:
      return made
    start, own_start = start + step, own_end


class Chunk(NamedTuple):
  """An encoding with one chunk of its last text.

  Attributes:
    encoding: the tokens of the chunk and of all that surrounds the last text.
    own: the positions in it of the tokens that the chunk predicts.
    shift: see `Row`.
  """

  encoding: Encoding
  own: range
  shift: int


def chunks(
  encoding: Encoding, special: SpecialIds, max_length: int, stride: int = STRIDE
) -> list[Chunk]:
  """Splits the last text of an encoding, so that rows are short enough.

  Args:
    encoding: of a text or a pair.
    special: the special ids of the tokenizer.
    max_length: the longest row.
    stride: the tokens of the last text that a chunk shares with the one
      before, as in Transformers.

  Raises:
    UserError: what surrounds the last text leaves no room for it.
  """
  places = pieces(encoding, special)
  size = max_length - (len(encoding.ids) - len(places))
  made = []
  for seen, own in chunk_spans(len(places), size, stride):
    kept = [
      *range(places.start),
      *places[seen.start : seen.stop],
      *range(places.stop, len(encoding.ids)),
    ]
    at = places.start - seen.start
    made.append(
      Chunk(
        Encoding(*([part[i] for i in kept] for part in encoding)),
        range(own.start + at, own.stop + at),
        seen.start,
      )
    )
  return made


def pieces(encoding: Encoding, special: SpecialIds) -> range:
  """The positions of the last text's tokens, between its special tokens."""
  return tokenizers.text_ranges(encoding, special)[-1]


class UnknownTokens:
  """Counts the tokens of examples that a vocabulary has not."""

  def __init__(self, tokenizer: Tokenizer | None):
    """Counts none without a vocabulary."""
    self._id = tokenizer.special.unknown if tokenizer else None
    self._unknown, self._all = 0, 0

  def add(self, examples: Iterable[Batch]) -> None:
    """Counts the tokens of unpadded examples."""
    for each in examples:
      self._unknown += int((each.token_ids == self._id).sum())
      self._all += each.token_ids.size

  def notes(self, files: str) -> list[str]:
    """A line for the user, if there are any in files of this name."""
    if not self._unknown:
      return []
    share = self._unknown / self._all
    return [
      f"{self._unknown:,} of {self._all:,} tokens ({share:.1%}) of {files} are"
      " unknown to the vocabulary"
    ]
