"""From encoded texts to a batch's rows; long texts become several windows."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.text import tokenizer as tokenizers
from bert_jax.text.tokenizer import Encoding, SpecialIds, Tokenizer
from bert_jax.types import Batch

OVERLAP = 128
"""Pieces that a window shares with the one before, if not told otherwise."""


def max_length(config: EncoderConfig, wanted: int = 0) -> int:
  """The longest row: what is wanted (0: no less), if the encoder takes it."""
  return min(wanted or config.max_positions, config.max_positions)


def encode(
  tokenizer: Tokenizer, length: int, text: str, pair: str | None = None
) -> Encoding:
  """A text or a pair, cut to `length` tokens, special tokens included."""
  return tokenizers.truncate(
    tokenizer.encode(text, pair), length, tokenizer.special
  )


def example(
  encoding: Encoding, targets: Mapping[str, np.ndarray] | None = None
) -> Batch:
  """One unbatched example, as long as the encoding."""
  length = len(encoding.ids)
  return Batch(
    token_ids=np.array(encoding.ids, np.int32),
    segment_ids=np.array(encoding.segments, np.int32),
    position_ids=np.arange(length, dtype=np.int32),
    sequence_ids=np.ones(length, np.int32),
    targets=dict(targets or {}),
  )


def blank(
  targets: Mapping[str, np.ndarray] | None = None, shape: tuple[int, ...] = (4,)
) -> Batch:
  """An example of zeros whose id arrays have this shape."""
  ids = np.zeros(shape, np.int32)
  return Batch(ids, ids, ids, ids, dict(targets or {}))


class Window(NamedTuple):
  """A part of a long text, in pieces of that text.

  Every piece belongs to one window of those that see it: the one that sees
  more of what is around it.

  Attributes:
    seen: the pieces in it.
    own: the pieces that belong to it.
  """

  seen: range
  own: range


def windows(count: int, size: int, overlap: int) -> list[Window]:
  """Windows over all pieces of a text, the last one shorter.

  Args:
    count: pieces of the text.
    size: pieces that a window has room for.
    overlap: pieces that a window shares with the one before; at most half of
      `size`.

  Raises:
    UserError: there is no room.
  """
  if size < 1:
    raise UserError(
      "the model's longest sequence leaves no room for text between the"
      " special tokens"
    )
  step = size - min(overlap, size // 2)
  made: list[Window] = []
  start = own_start = 0
  while True:
    end = min(start + size, count)
    own_end = count if end == count else (start + step + end) // 2
    made.append(Window(range(start, end), range(own_start, own_end)))
    if end == count:
      return made
    start, own_start = start + step, own_end


class Cut(NamedTuple):
  """An encoding with one window of its last text.

  Attributes:
    encoding: what the window sees, and all that is around the last text.
    own: the places in it of the pieces that belong to the window.
    shift: how far these are from where they were before.
  """

  encoding: Encoding
  own: range
  shift: int


def windowed(
  encoding: Encoding,
  special: SpecialIds,
  max_length: int,
  overlap: int = OVERLAP,
) -> list[Cut]:
  """Cuts the last text of an encoding into windows that make short rows.

  Args:
    encoding: of a text or a pair.
    special: the special ids of the tokenizer.
    max_length: the longest row.
    overlap: pieces that a window shares with the one before, which
      Transformers calls the stride.

  Raises:
    UserError: all that is around the last text leaves no room for it.
  """
  places = pieces(encoding, special)
  size = max_length - (len(encoding.ids) - len(places))
  cuts = []
  for seen, own in windows(len(places), size, overlap):
    kept = [
      *range(places.start),
      *places[seen.start : seen.stop],
      *range(places.stop, len(encoding.ids)),
    ]
    at = places.start - seen.start
    cuts.append(
      Cut(
        Encoding(*([part[i] for i in kept] for part in encoding)),
        range(own.start + at, own.stop + at),
        seen.start,
      )
    )
  return cuts


def pieces(encoding: Encoding, special: SpecialIds) -> range:
  """The places of the last text's pieces, between its special tokens."""
  last = len(encoding.ids) - 1
  start = last
  # No text is ever encoded as a special token that frames texts.
  while encoding.ids[start - 1] not in (special.sep, special.cls):
    start -= 1
  return range(start, last)
