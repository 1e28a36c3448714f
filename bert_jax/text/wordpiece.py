"""WordPiece, the tokenizer of BERT and MPNet, on the `tokenizers` library."""

import functools
import json
import pathlib
import re
from collections.abc import Sequence

import numpy as np
import tokenizers
from tokenizers import AddedToken, decoders, models, processors

from bert_jax.settings import UserError
from bert_jax.text import basic_tokenizer, config_files
from bert_jax.text.basic_tokenizer import WordRules
from bert_jax.text.tokenizer import (
  Encoding,
  SpecialIds,
  TokenizersBackend,
  check_text,
)

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""BERT's special tokens, in the order of the fields of `SpecialIds`."""
MPNET_TOKENS = ("<pad>", "[UNK]", "<s>", "</s>", "<mask>")
"""MPNet's special tokens, in the same order."""
MPNET = "MPNetTokenizer"
"""The class of Transformers with two separators between the texts of a pair."""
PREFIX = "##"
"""The prefix of tokens that continue a word."""
MAX_CHARACTERS = 100
"""Longer words are encoded as `[UNK]`, as in Transformers. Google's later code
has a limit of 200."""
# The characters that JSON can contain, but not a line of a `vocab.txt`.
_NEVER = re.compile("[\n\r\ud800-\udfff]")


class WordPiece(TokenizersBackend):
  """A `Tokenizer` by greedy longest match.

  From "Google's Neural Machine Translation System" (Wu et al., 2016), as in
  BERT (`WordpieceTokenizer` in google-research/bert). Offsets include accents
  and control characters that normalization removes inside a token.
  """

  def __init__(
    self,
    tokens: Sequence[str],
    rules: WordRules | None = None,
    where: str = "vocabulary",
    added: Sequence[AddedToken] = (),
    names: Sequence[str] = SPECIAL_TOKENS,
    double_separator: bool = False,
  ):
    """Creates the tokenizer of a vocabulary.

    Args:
      tokens: the vocabulary in the order of the ids, special tokens included.
      rules: how text is split into words; None for those of uncased BERT.
      where: the name of the vocabulary in messages, for instance its file.
      added: tokens that are parsed before text is split into words. Special
        ones are ignored.
      names: the special tokens, in the order of the fields of `SpecialIds`.
      double_separator: whether two separators are between the texts of a pair,
        as in MPNet.

    Raises:
      UserError: the vocabulary is empty, has duplicate or empty tokens, or
        lacks a special token.
    """
    self.tokens = tuple(tokens)
    self.rules = rules or WordRules()
    self._names, self._double_separator = tuple(names), double_separator
    ids = _check(self.tokens, self._names, where)
    self.special = SpecialIds(*(ids[token] for token in names))
    self.continuations = np.array(
      [
        len(token) > len(PREFIX) and token.startswith(PREFIX)
        for token in tokens
      ]
    )
    self._added = [token for token in added if not token.special]
    self._backend = self._make(ids, self._names, self._added)

  def __reduce__(self):
    arguments = (self.tokens, self.rules, "vocabulary", self._added)
    return type(self), (*arguments, self._names, self._double_separator)

  def _encode(
    self, backend: tokenizers.Tokenizer, text: str, pair: str | None
  ) -> Encoding:
    encoding = backend.encode(
      check_text(text), None if pair is None else check_text(pair, "pair")
    )
    return Encoding(encoding.ids, encoding.type_ids, encoding.offsets)

  def decode(self, ids: Sequence[int]) -> str:
    """See `Tokenizer.decode`."""
    for id in ids:
      self.token(id)
    return self._backend.decode(list(map(int, ids)), skip_special_tokens=True)

  def save(self, folder: pathlib.Path) -> None:
    """Writes `vocab.txt`, `tokenizer.json` and `tokenizer_config.json`."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = "".join(f"{token}\n" for token in self.tokens)
    settings = {
      "tokenizer_class": MPNET if self._double_separator else "BertTokenizer",
      "do_lower_case": self.rules.lowercase,
      "strip_accents": self.rules.strip_accents,
      "tokenize_chinese_chars": self.rules.split_cjk,
      **dict(zip(config_files.KEYS.values(), self._names)),
    }
    for name, text in (
      ("vocab.txt", vocabulary),
      ("tokenizer.json", self._backend.to_str(pretty=True) + "\n"),
      ("tokenizer_config.json", json.dumps(settings, indent=2) + "\n"),
    ):
      (folder / name).write_text(text, encoding="utf-8", newline="\n")

  @functools.cached_property
  def _masking_backend(self) -> tokenizers.Tokenizer:
    """The backend that parses the mask in text; created on first use."""
    ids = {token: id for id, token in enumerate(self.tokens)}
    *others, mask = self._names
    found = AddedToken(mask, normalized=False)
    return self._make(ids, others, [*self._added, found])

  def _make(
    self,
    ids: dict[str, int],
    special: Sequence[str],
    added: Sequence[AddedToken],
  ) -> tokenizers.Tokenizer:
    _, unknown, cls, sep, _ = self._names
    backend = tokenizers.Tokenizer(
      models.WordPiece(
        vocab=ids, unk_token=unknown, max_input_chars_per_word=MAX_CHARACTERS
      )
    )
    backend.normalizer = basic_tokenizer.normalizer(self.rules)
    backend.pre_tokenizer = basic_tokenizer.pre_tokenizer(self.rules)
    backend.post_processor = processors.BertProcessing(
      (sep, ids[sep]), (cls, ids[cls])
    )
    if self._double_separator:
      backend.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {sep} {sep}:1 $B:1 {sep}:1",
        special_tokens=[(cls, ids[cls]), (sep, ids[sep])],
      )
    backend.decoder = decoders.WordPiece(prefix=PREFIX)
    backend.add_special_tokens(list(special))
    backend.add_tokens(list(added))
    # Encodes the names of special tokens in text as text.
    backend.encode_special_tokens = True
    return backend


def _check(
  tokens: Sequence[str], names: Sequence[str], where: str
) -> dict[str, int]:
  """Validates a vocabulary, and returns the id of each token."""
  if not tokens:
    raise UserError(f"{where}: the vocabulary is empty")
  ids: dict[str, int] = {}
  for id, token in enumerate(tokens):
    if not token or _NEVER.search(token):
      raise UserError(f"{where}, line {id + 1}: {token!r} is not a valid token")
    if token in ids:
      raise UserError(
        f"{where}, line {id + 1}: {token!r} is a duplicate of line"
        f" {ids[token] + 1}"
      )
    ids[token] = id
  missing = [token for token in names if token not in ids]
  if missing:
    raise UserError(
      f"{where}: no {' '.join(missing)} among its {len(ids)} tokens; expected"
      f" one token per line, with {' '.join(names)}"
    )
  return ids
