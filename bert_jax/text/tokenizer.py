"""What a tokenizer is, whatever its method."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from bert_jax.settings import UserError


@dataclasses.dataclass(frozen=True)
class SpecialIds:
  """The ids of the tokens that stand for no text."""

  pad: int
  unknown: int
  cls: int
  sep: int
  mask: int


class Encoding(NamedTuple):
  """A text or a pair of texts between its family's special tokens.

  That is `[CLS] text [SEP] (pair [SEP])`, in RoBERTa's and XLM-R's own form
  `<s> text </s> (</s> pair </s>)`.

  Attributes:
    ids: token ids, special tokens included.
    segments: 0 up to the first `[SEP]`, 1 from there on, in every family.
    offsets: for each token the half-open range of characters that it came
      from, in `text` (segment 0) or in `pair` (segment 1); (0, 0) for a
      special token that frames the texts.
  """

  ids: list[int]
  segments: list[int]
  offsets: list[tuple[int, int]]


class Tokenizer(Protocol):
  """Text to ids and back.

  Text is only text: a `[MASK]` that a user typed is encoded as its
  characters, never as the special token, but in `encode_masked`.

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

  def encode_masked(self, text: str) -> Encoding:
    """Encodes a text in which the mask token's name stands for the mask.

    The name is `token(special.mask)`, as `[MASK]` or `<mask>`; it takes the
    space before it where the family's does. All else is text, other special
    tokens' names too.
    """

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
    """Writes the files that `bert_jax.text.load` reads.

    Transformers' `AutoTokenizer` reads them too, and gives the same ids.
    """


def truncate(
  encoding: Encoding, max_length: int, special: SpecialIds
) -> Encoding:
  """Cuts tokens off the ends of the texts until `max_length` are left.

  Of a pair the longer text is cut first, down to the shorter, and then both
  alike: the strategy `longest_first` of Transformers, with the lengths that
  its fast tokenizers choose (the Python ones cut an odd token elsewhere).

  Args:
    encoding: what `Tokenizer.encode` or `encode_masked` gave.
    max_length: how many tokens may stay, special tokens included.
    special: the special ids of the tokenizer.

  Returns:
    The encoding, its special tokens all kept.

  Raises:
    UserError: `max_length` has no room for the special tokens.
  """
  if len(encoding.ids) <= max_length:
    return encoding
  # No text is ever encoded as `sep`, so its places tell the texts apart.
  ends = [i for i, id in enumerate(encoding.ids) if id == special.sep]
  texts = [range(1, ends[0])]
  if len(ends) > 1:
    texts.append(range(ends[-2] + 1, ends[-1]))
  framing = len(encoding.ids) - sum(map(len, texts))
  room = max_length - framing
  if room < 0:
    raise UserError(
      f"max_length: {max_length} has no room for the {framing} special tokens"
    )
  shorter = min(map(len, texts))
  if len(texts) == 1:
    kept = [room]
  elif 2 * shorter <= room:
    kept = [min(len(text), room - shorter) for text in texts]
  else:
    odd_goes_to_pair = len(texts[0]) <= len(texts[1])
    kept = [room // 2 + room % 2 * (not odd_goes_to_pair)]
    kept.append(room - kept[0])
  cut = {i for text, length in zip(texts, kept) for i in text[length:]}
  places = [i for i in range(len(encoding.ids)) if i not in cut]
  return Encoding(*([part[i] for i in places] for part in encoding))
