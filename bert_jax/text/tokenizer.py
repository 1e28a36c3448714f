"""The interface of all tokenizers, and what their implementations share."""

import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol, Self

import numpy as np

from bert_jax.settings import UserError

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class SpecialIds:
  """The ids of the special tokens; some vocabularies have no mask."""

  pad: int
  unknown: int
  cls: int
  sep: int
  mask: int | None


class Encoding(NamedTuple):
  """A text, or a pair of texts, as tokens with the special tokens.

  The layout is `[CLS] text [SEP]` or `[CLS] text [SEP] pair [SEP]`; in RoBERTa
  and XLM-R `<s> text </s>` or `<s> text </s> </s> pair </s>`.

  Attributes:
    ids: token ids, special tokens included.
    segments: 0 up to the first `[SEP]`, 1 after it, in every family.
    offsets: for each token the half-open range of characters that it covers,
      in `text` (segment 0) or in `pair` (segment 1); (0, 0) for the special
      tokens of the layout.
    words: for each token the index of its word, among those that the tokenizer
      splits a text into before it makes tokens; -1 for the special tokens of
      the layout. In BERT a punctuation mark is a word.
  """

  ids: list[int]
  segments: list[int]
  offsets: list[tuple[int, int]]
  words: list[int]


class Tokenizer(Protocol):
  """Converts text to ids and back.

  Tokens that were added to a vocabulary are found in text and stay whole, in
  every family. The five special tokens are not: a `[MASK]` in a text is encoded
  as its characters, other than by Transformers, unless `encode_masked` or
  `with_split_special_tokens` says otherwise.

  Attributes:
    special: the ids of the special tokens.
    continuations: whether each id continues a word; bool, [vocabulary].
  """

  special: SpecialIds
  continuations: np.ndarray

  def __len__(self) -> int:
    """The size of the vocabulary, special tokens included."""

  def encode(self, text: str, pair: str | None = None) -> Encoding:
    """Encodes a text or a pair, with special tokens and offsets.

    Raises:
      UserError: `text` or `pair` is not a string.
    """

  def encode_masked(self, text: str) -> Encoding:
    """Encodes a text in which the name of the mask token is the mask token.

    The name is `token(special.mask)`, for instance `[MASK]` or `<mask>`; it
    includes the space before it in families that do so. The names of the other
    special tokens are encoded as by `encode`.

    Raises:
      UserError: `text` is not a string.
    """

  def encode_pieces(self, texts: Sequence[str]) -> list[list[int]]:
    """Encodes a batch of texts without special tokens and offsets; fast.

    Raises:
      UserError: `texts` is not a sequence of strings.
    """

  def with_split_special_tokens(self, split: bool | None) -> Self:
    """This tokenizer with another treatment of special tokens in text.

    Args:
      split: as in Transformers, whether special tokens in text are text. True
        for all of them, added ones included; False for none; None for the five
        fields of `special` only.
    """

  def token(self, id: int) -> str:
    """The token with an id; "" for an id that no text is encoded as.

    Raises:
      IndexError: the vocabulary has no such id.
    """

  def decode(self, ids: Sequence[int]) -> str:
    """Joins tokens to text, without the special tokens.

    Raises:
      IndexError: the vocabulary has no such id.
    """

  def detokenize(self, ids: Sequence[int]) -> str:
    """As `decode`, for people to read.

    A vocabulary that keeps no spaces (WordPiece) does not tell where they are
    around punctuation; there are then as many as is usual.

    Raises:
      IndexError: the vocabulary has no such id.
    """

  def save(self, folder: pathlib.Path) -> None:
    """Writes files that `bert_jax.text.load` reads.

    `AutoTokenizer` of Transformers reads them too, with the same ids.
    """


def fingerprint(tokenizer: Tokenizer | None) -> str | None:
  """A hash of the vocabulary in the order of its ids; None without one."""
  if tokenizer is None:
    return None
  tokens = (tokenizer.token(id) for id in range(len(tokenizer)))
  return hashlib.sha256("\n".join(tokens).encode()).hexdigest()


def check_text(text: object, name: str = "text") -> str:
  r"""Checks that a value is a string, and replaces lone surrogates.

  Lone surrogates come from JSON such as `"\ud800"` and cannot be encoded as
  UTF-8. Each becomes U+FFFD, so offsets do not change.

  Raises:
    UserError: `text` is not a string; the message has the `name` of the value.
  """
  if not isinstance(text, str):
    raise UserError(
      f"{name}: expected a string, got {text!r:.40} ({type(text).__name__})"
    )
  return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def mask_name(tokenizer: Tokenizer) -> str:
  """The name of the mask token, or a `UserError` if there is none."""
  if tokenizer.special.mask is None:
    raise UserError("the vocabulary has no mask token")
  return tokenizer.token(tokenizer.special.mask)


def text_ranges(encoding: Encoding, special: SpecialIds) -> list[range]:
  """The positions of the tokens of each text, between the special tokens."""
  # A token that stands in a text covers characters of it.
  ends = [
    position
    for position, (id, span) in enumerate(zip(encoding.ids, encoding.offsets))
    if id == special.sep and span == (0, 0)
  ]
  texts = [range(1, ends[0])]
  if len(ends) > 1:
    texts.append(range(ends[-2] + 1, ends[-1]))
  return texts


def truncate(
  encoding: Encoding, max_length: int, special: SpecialIds
) -> Encoding:
  """Truncates the ends of texts to `max_length` tokens, special ones included.

  The longer text of a pair is truncated first, to the length of the shorter
  one; then both equally. This is `longest_first` of Transformers, with the
  lengths that its fast tokenizers choose (its Python tokenizers assign an odd
  token differently).

  Raises:
    UserError: `max_length` is less than the number of special tokens.
  """
  if len(encoding.ids) <= max_length:
    return encoding
  texts = text_ranges(encoding, special)
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
