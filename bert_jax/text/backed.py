"""What the tokenizers that the library `tokenizers` runs have in common."""

from collections.abc import Sequence

import tokenizers

from bert_jax.text.inputs import checked_list


class Backed:
  """A part of a `Tokenizer`, for the classes that set these attributes.

  Attributes:
    tokens: the vocabulary; a token's place is its id.
  """

  tokens: tuple[str, ...]
  _backend: tokenizers.Tokenizer

  def __len__(self) -> int:
    return len(self.tokens)

  def encode_pieces(self, texts: Sequence[str]) -> list[list[int]]:
    """See `Tokenizer.encode_pieces`.

    Raises:
      UserError: `texts` is not a sequence of strings.
    """
    encodings = self._backend.encode_batch_fast(
      checked_list(texts), add_special_tokens=False
    )
    return [encoding.ids for encoding in encodings]

  def token(self, id: int) -> str:
    """See `Tokenizer.token`."""
    if not 0 <= id < len(self.tokens):
      raise IndexError(f"no token {id}: the vocabulary has {len(self.tokens)}")
    return self.tokens[id]
