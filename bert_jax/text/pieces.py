"""Text as it is written, piece after piece."""

import itertools

from bert_jax.text.tokenizer import Tokenizer

# What ends a text for now: spaces, and bytes of half a character.
_UNSTABLE = " \t\n\r\ufffd"


class Pieces:
  """The characters that each token adds to a text.

  A piece is given away once the next token cannot change it, so that pieces
  end with whole characters, and joined are the text.

  >>> pieces = Pieces(tokenizer)
  >>> print(*(pieces.add(id) for id in ids), pieces.end(), sep="")
  """

  def __init__(self, tokenizer: Tokenizer):
    """No token is there yet."""
    self._tokenizer = tokenizer
    self._ids: list[int] = []
    self._text = self._given = ""

  def add(self, id: int) -> str:
    """The characters that are settled by the next token; maybe none."""
    before = self._text
    self._ids.append(id)
    self._text = self._tokenizer.detokenize(self._ids).strip()
    settled = _common(before, self._text).rstrip(_UNSTABLE)
    if len(settled) <= len(self._given) or not settled.startswith(self._given):
      return ""
    piece, self._given = settled[len(self._given) :], settled
    return piece

  def end(self) -> str:
    """The rest of the text."""
    return self._text[len(self._given) :]


def _common(one: str, other: str) -> str:
  """The longest text that both begin with."""
  same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(one, other))
  return one[: sum(1 for _ in same)]
