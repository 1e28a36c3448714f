"""The interface of all tokenizers, and what their implementations share."""

import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import tokenizers

from bert_jax.settings import UserError

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass(frozen=True)
class SpecialIds:
  """The ids of the special tokens."""

  pad: int
  unknown: int
  cls: int
  sep: int
  mask: int


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
  """

  ids: list[int]
  segments: list[int]
  offsets: list[tuple[int, int]]


class Tokenizer(Protocol):
  """Converts text to ids and back.

  Special tokens are never parsed from text: a `[MASK]` in a text is encoded as
  its characters. The one exception is `encode_masked`.

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
    special tokens are encoded as text.

    Raises:
      UserError: `text` is not a string.
    """

  def encode_pieces(self, texts: Sequence[str]) -> list[list[int]]:
    """Encodes a batch of texts without special tokens and offsets; fast.

    Raises:
      UserError: `texts` is not a sequence of strings.
    """

  def token(self, id: int) -> str:
    """The token with an id.

    Raises:
      IndexError: the vocabulary has no such id.
    """

  def decode(self, ids: Sequence[int]) -> str:
    """Joins tokens to text, without the special tokens.

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


class TokenizersBackend:
  """The methods that need nothing but a `tokenizers.Tokenizer`.

  Subclasses set `tokens`, the vocabulary in the order of the ids, and implement
  `_encode`.
  """

  tokens: tuple[str, ...]
  _backend: tokenizers.Tokenizer

  def __len__(self) -> int:
    return len(self.tokens)

  def encode(self, text: str, pair: str | None = None) -> Encoding:
    """See `Tokenizer.encode`, and the class about offsets."""
    return self._encode(self._backend, text, pair)

  def encode_masked(self, text: str) -> Encoding:
    """See `Tokenizer.encode_masked`."""
    return self._encode(self._masking_backend, text, None)

  def encode_pieces(self, texts: Sequence[str]) -> list[list[int]]:
    """See `Tokenizer.encode_pieces`."""
    if isinstance(texts, str):
      raise UserError("texts: expected a list of strings, got one string")
    encodings = self._backend.encode_batch_fast(
      [check_text(text, f"texts[{n}]") for n, text in enumerate(texts)],
      add_special_tokens=False,
    )
    return [encoding.ids for encoding in encodings]

  def token(self, id: int) -> str:
    """See `Tokenizer.token`."""
    if not 0 <= id < len(self.tokens):
      raise IndexError(f"no token {id}: the vocabulary has {len(self.tokens)}")
    return self.tokens[id]


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
  # Text is never encoded as `sep`, so its positions separate the texts.
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
