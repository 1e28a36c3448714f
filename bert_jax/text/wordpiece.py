"""WordPiece with the word rules of BERT, on the `tokenizers` library."""

import json
import re
from collections.abc import Mapping, Sequence

import tokenizers
from tokenizers import decoders, models, processors

from bert_jax.settings import UserError
from bert_jax.text import basic_tokenizer, config_files
from bert_jax.text.basic_tokenizer import WordRules
from bert_jax.text.json_format import FILE_NAME, PREFIX
from bert_jax.text.tokenizer_json import JsonTokenizer

VOCABULARY = "vocab.txt"
SPECIAL_TOKENS = tuple(config_files.BERT.values())
"""The special tokens of BERT, in the order of the fields of `SpecialIds`."""
MPNET_TOKENS = ("<pad>", "[UNK]", "<s>", "</s>", "<mask>")
"""The special tokens of MPNet, in the same order."""
MPNET = "MPNetTokenizer"
"""The class of Transformers with two separators between the texts of a pair."""
MAX_CHARACTERS = 100
"""Longer words are encoded as `[UNK]`, as in Transformers. Google's later code
has a limit of 200."""
# The characters that JSON can contain, but not a line of a `vocab.txt`.
_NEVER = re.compile("[\n\r\ud800-\udfff]")


class WordPiece(JsonTokenizer):
  """A `Tokenizer` by greedy longest match.

  From "Google's Neural Machine Translation System" (Wu et al., 2016), as in
  BERT (`WordpieceTokenizer` in google-research/bert).
  """

  def __init__(
    self,
    tokens: Sequence[str],
    rules: WordRules | None = None,
    where: str = "vocabulary",
    added: Sequence[tokenizers.AddedToken] = (),
    names: Mapping[str, str] | None = None,
    double_separator: bool = False,
    split_special_tokens: bool | None = None,
  ):
    """Creates the tokenizer of a vocabulary.

    Args:
      tokens: the vocabulary in the order of the ids, special and added tokens
        included. As in Transformers, an empty string is an id without a token,
        and of a repeated token the last id is used.
      rules: how text is split into words; None for those of uncased BERT.
      where: the name of the vocabulary in messages, for instance its file.
      added: tokens that are found in text before it is split into words.
      names: the token of each field of `SpecialIds`, maybe without a mask; by
        default those of BERT.
      double_separator: whether two separators are between the texts of a pair,
        as in MPNet.
      split_special_tokens: see `Tokenizer.with_split_special_tokens`.

    Raises:
      UserError: the vocabulary is empty, has an invalid token or lacks a
        special one.
    """
    self.rules = rules or WordRules()
    names = dict(names or config_files.BERT)
    ids = _check(tokens, names, where)
    backend = tokenizers.Tokenizer(
      models.WordPiece(
        vocab={names["unknown"]: 0},
        unk_token=names["unknown"],
        max_input_chars_per_word=MAX_CHARACTERS,
      )
    )
    backend.normalizer = basic_tokenizer.normalizer(self.rules)
    backend.pre_tokenizer = basic_tokenizer.pre_tokenizer(self.rules)
    cls, sep = names["cls"], names["sep"]
    second = f"{sep}:1 " if double_separator else ""
    backend.post_processor = processors.TemplateProcessing(
      single=f"{cls} $A {sep}",
      pair=f"{cls} $A {sep} {second}$B:1 {sep}:1",
      special_tokens=[(cls, ids[cls]), (sep, ids[sep])],
    )
    backend.decoder = decoders.WordPiece(prefix=PREFIX)
    listed = {
      name: tokenizers.AddedToken(name, special=True, normalized=False)
      for name in names.values()
    }
    listed |= {token.content: token for token in added}
    content = json.loads(backend.to_str())
    content["model"]["vocab"] = ids
    content["added_tokens"] = [
      {"id": ids[name], **config_files.entry(token)}
      for name, token in sorted(listed.items(), key=lambda x: ids[x[0]])
    ]
    kept = "".join(
      f"{token if ids.get(token) == id else ''}\n"
      for id, token in enumerate(tokens[: 1 + max(ids.values())])
    )
    settings = config_files.to_save(
      MPNET if double_separator else "BertTokenizer",
      names,
      do_lower_case=self.rules.lowercase,
      strip_accents=self.rules.strip_accents,
      tokenize_chinese_chars=self.rules.split_cjk,
      split_special_tokens=split_special_tokens,
    )
    files = {
      VOCABULARY: kept.encode(),
      FILE_NAME: json.dumps(content, ensure_ascii=False).encode(),
    }
    super().__init__(files, names, settings, where)


def _check(
  tokens: Sequence[str], names: Mapping[str, str], where: str
) -> dict[str, int]:
  """Validates a vocabulary, and returns the id of each token."""
  for id, token in enumerate(tokens):
    if _NEVER.search(token):
      raise UserError(f"{where}, line {id + 1}: {token!r} is not a valid token")
  ids = {token: id for id, token in enumerate(tokens) if token}
  if not ids:
    raise UserError(f"{where}: the vocabulary is empty")
  missing = [name for name in names.values() if name not in ids]
  if missing:
    raise UserError(
      f"{where}: no {' '.join(missing)} among its {len(ids)} tokens; expected"
      f" one token per line, with {' '.join(names.values())}"
    )
  return ids
