"""What a tokenizer is, whatever its method."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class SpecialIds:
  """The ids of the tokens that stand for no text."""

  pad: int
  unknown: int
  cls: int
  sep: int
  mask: int


class Encoding(NamedTuple):
  """A text or a pair of texts as `[CLS] text [SEP] (pair [SEP])`.

  Attributes:
    ids: token ids, special tokens included.
    segments: 0 up to the first `[SEP]`, 1 from there on.
    offsets: for each token the half-open range of characters that it came
      from, in `text` (segment 0) or in `pair` (segment 1); (0, 0) for a
      special token.
  """

  ids: list[int]
  segments: list[int]
  offsets: list[tuple[int, int]]


class Tokenizer(Protocol):
  """Text to ids and back.

  Text is only text: a `[MASK]` that a user typed is encoded as its
  characters, never as the special token.

  Attributes:
    special: the ids of the special tokens.
    continuations: for each id, whether its piece continues a word; bool,
      shape [vocabulary].
  """

  special: SpecialIds
  continuations: np.ndarray

  def __len__(self) -> int:
    """The size of the vocabulary, special tokens included."""

  def encode(self, text: str, pair: str | None = None) -> Encoding:
    """Encodes one text or a pair, with special tokens and offsets."""

  def encode_pieces(self, texts: Sequence[str]) -> list[list[int]]:
    """Encodes many texts, without special tokens and offsets; fast."""

  def token(self, id: int) -> str:
    """The piece that `id` stands for.

    Raises:
      IndexError: there is no such id.
    """

  def decode(self, ids: Sequence[int]) -> str:
    """Text for people: pieces joined to words, special tokens left out."""

  def save(self, folder: pathlib.Path) -> None:
    """Writes the files that `bert_jax.text.load` reads."""
