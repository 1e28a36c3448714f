"""Tokenizers defined by a `tokenizer.json`.

Among them are the byte-level BPE of RoBERTa and ModernBERT (Sennrich et al.,
2016; Radford et al., 2019), the Unigram model of ALBERT and XLM-R (Kudo, 2018),
and WordPiece with other word rules than BERT's.
"""

import functools
import json
import pathlib
from collections.abc import Mapping, Sequence, Set
from typing import Any, Self

import numpy as np
import tokenizers

from bert_jax.settings import UserError
from bert_jax.text import detokenization, trimming
from bert_jax.text.config_files import CONFIG, KEYS, SPLIT, Added
from bert_jax.text.json_format import (
  BY_WORD,
  FILE_NAME,
  PREFIX,
  add_tokens,
  added_entries,
  library_errors,
  model_type,
  token_ids,
)
from bert_jax.text.tokenizer import (
  Encoding,
  SpecialIds,
  check_text,
)

_FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
_WORD_STARTS = ("Ġ", "▁", " ")
"""The first character of tokens that start a word: the space of byte-level BPE,
of SentencePiece, and a plain one."""


class JsonTokenizer:
  """A `Tokenizer` that runs a `tokenizer.json` as it is written.

  Only truncation and padding are not those of the file.

  A token continues a word if it has the prefix of WordPiece, or, in other
  models with tokens that start with a space, if it does not. Added tokens are
  words.

  Offsets exclude leading and trailing white space, unless the token is nothing
  else; Transformers does so only for RoBERTa. If normalization makes several
  tokens of one character, each has the offsets of that character. Offsets of
  WordPiece include accents and control characters that normalization removes
  inside a token.
  """

  def __init__(
    self,
    files: Mapping[str, bytes],
    names: Mapping[str, str],
    settings: Mapping[str, Any],
    where: str = FILE_NAME,
  ):
    """Creates the tokenizer of a `tokenizer.json`.

    Args:
      files: the files that `save` writes, by name, including `tokenizer.json`.
      names: the token of each field of `SpecialIds`, but for a missing mask.
      settings: the content of `tokenizer_config.json` that `save` writes. As
        in Transformers, its `add_prefix_space` overrides that of
        `tokenizer.json`, and its `split_special_tokens` is that of
        `Tokenizer.with_split_special_tokens`.
      where: the name of the file in messages.

    Raises:
      UserError: the file is not a tokenizer, ids are not unique, or texts are
        not encoded between special tokens.
    """
    self._files = dict(files)
    self._names = dict(names)
    self._settings = dict(settings)
    content = json.loads(self._files[FILE_NAME])
    ids = token_ids(content, where)
    tokens = [""] * (1 + max(ids.values(), default=-1))
    for token, id in ids.items():
      tokens[id] = token
    self.tokens = tuple(tokens)
    self.special = SpecialIds(
      **{role: ids.get(names.get(role)) for role in KEYS}
    )
    added = added_entries(content)
    self._special = {t["content"] for t in added if t.get("special")}
    self._special |= {*names.values()}
    self._special_ids = frozenset(ids[name] for name in self._special)
    self._trims = model_type(content) not in BY_WORD
    self.continuations = _continuations(
      self.tokens, content, {t["content"] for t in added} | self._special
    )
    # Unigram fails only at the first text with an unknown character.
    model, unknown = content["model"], self.special.unknown
    if isinstance(model["vocab"], list) and model.get("unk_id") != unknown:
      raise UserError(
        f"{where}: unk_id: expected {unknown}, the id of {names['unknown']},"
        f" got {model.get('unk_id')!r:.40}"
      )
    self._backend = self._make(content, where)
    self._check_frame(where)

  @classmethod
  def of_backend(
    cls,
    backend: tokenizers.Tokenizer,
    files: Mapping[str, bytes],
    names: Mapping[str, str],
    settings: Mapping[str, Any],
    added: Mapping[str, Added],
    where: str,
  ) -> Self:
    """Creates the tokenizer of files that are older than `tokenizer.json`.

    The mask includes the space before it, as in the families of these files.

    `backend` has no added tokens; `added` has them by name.

    Raises:
      UserError: an added token cannot have its id; see also `JsonTokenizer`.
    """
    for role, name in names.items():
      if name not in added:
        token = tokenizers.AddedToken(
          name, lstrip=role == "mask", normalized=False, special=True
        )
        backend.add_special_tokens([token])
    add_tokens(backend, added, where)
    written = {**files, FILE_NAME: backend.to_str().encode()}
    return cls(written, names, settings, where)

  def __getstate__(self) -> dict[str, Any]:
    backends = ("_backend", "_masking_backend")
    return {k: x for k, x in vars(self).items() if k not in backends}

  def __setstate__(self, state: Mapping[str, Any]) -> None:
    vars(self).update(state)
    self._backend = self._make(json.loads(self._files[FILE_NAME]), FILE_NAME)

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

  def with_split_special_tokens(self, split: bool | None) -> Self:
    """See `Tokenizer.with_split_special_tokens`."""
    settings = {k: x for k, x in self._settings.items() if k != SPLIT}
    if split is not None:
      settings[SPLIT] = split
    made = object.__new__(type(self))
    made.__setstate__(self.__getstate__() | {"_settings": settings})
    return made

  def trimmed(self, texts: Sequence[str]) -> tuple[Self, list[int]]:
    """A tokenizer without the tokens that texts do not need.

    These and all special and added tokens, and single characters, are kept;
    the texts are encoded as before. See `trimming.needed`.

    Args:
      texts: those that are to be encoded.

    Returns:
      The tokenizer, and the ids that its tokens have in this one.
    """
    used = {id for ids in self.encode_pieces(texts) for id in ids}
    kept = trimming.needed(
      json.loads(self._files[FILE_NAME]), used | self._special_ids
    )
    made = object.__new__(type(self))
    vars(made).update(vars(self))
    files = trimming.trimmed(self._files, kept)
    JsonTokenizer.__init__(made, files, self._names, self._settings)
    vars(made).pop("_masking_backend", None)
    return made, kept

  def token(self, id: int) -> str:
    """See `Tokenizer.token`."""
    if not 0 <= id < len(self.tokens):
      raise IndexError(f"no token {id}: the vocabulary has {len(self.tokens)}")
    return self.tokens[id]

  def decode(self, ids: Sequence[int]) -> str:
    """See `Tokenizer.decode`."""
    for id in ids:
      self.token(id)
    return self._backend.decode(
      [int(id) for id in ids if id not in self._special_ids]
    )

  def detokenize(self, ids: Sequence[int]) -> str:
    """See `Tokenizer.detokenize`."""
    text = self.decode(ids)
    return text if self._trims else detokenization.detokenized(text)

  def save(self, folder: pathlib.Path) -> None:
    """Writes the files that the tokenizer was loaded from, unchanged.

    Also writes a `tokenizer.json` if there was none, so that all versions of
    Transformers give the same ids, and a `tokenizer_config.json` with the class
    of Transformers.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in self._files.items():
      (folder / name).write_bytes(data)
    (folder / CONFIG).write_text(
      json.dumps(self._settings, indent=2) + "\n", encoding="utf-8"
    )

  def _encode(
    self, backend: tokenizers.Tokenizer, text: str, pair: str | None
  ) -> Encoding:
    texts = [check_text(text)]
    if pair is not None:
      texts.append(check_text(pair, "pair"))
    encoding = backend.encode(*texts)
    ids, offsets = encoding.ids, encoding.offsets
    segments = [0] * len(ids)
    if pair is not None:
      first = 2 + encoding.sequence_ids.count(0)
      segments[first:] = [1] * (len(ids) - first)
    if self._trims:
      offsets = [
        _without_space(texts[segment], span)
        for segment, span in zip(segments, offsets)
      ]
    words = [-1 if word is None else word for word in encoding.word_ids]
    return Encoding(ids, segments, offsets, words)

  @functools.cached_property
  def _masking_backend(self) -> tokenizers.Tokenizer:
    """The backend that parses the mask in text too.

    Created on first use, because it holds a second vocabulary in memory.
    """
    content = json.loads(self._files[FILE_NAME])
    return self._make(content, FILE_NAME, self._names.get("mask"))

  def _make(
    self, content: dict[str, Any], where: str, mask: str | None = None
  ) -> tokenizers.Tokenizer:
    """Creates a backend for text, in which `mask` is a token."""
    split = self._settings.get(SPLIT)
    if split is None:
      hidden = {*self._names.values()} - {mask}
    else:
      hidden = self._special - {mask} if split else set()
    listed = {token["content"]: token for token in added_entries(content)}
    for name in self._names.values():
      listed.setdefault(name, {"content": name, "id": self.tokens.index(name)})
    for name, token in listed.items():
      listed[name] = _FLAGS | token | {"special": name in hidden}
    for name in _hide(content, hidden - {self._names["unknown"]}):
      del listed[name]
    content["added_tokens"] = sorted(listed.values(), key=lambda t: t["id"])
    content["truncation"] = content["padding"] = None
    prefix_space = self._settings.get("add_prefix_space")
    for name in ("pre_tokenizer", "post_processor"):
      step = content.get(name)
      has_key = isinstance(step, dict) and "add_prefix_space" in step
      if has_key and prefix_space is not None:
        content[name] = step | {"add_prefix_space": prefix_space}
    with library_errors(where):
      backend = tokenizers.Tokenizer.from_str(json.dumps(content))
    for name, token in listed.items():
      if (found := backend.token_to_id(name)) != token["id"]:
        raise UserError(
          f"{where}: the added token {name!r:.60} cannot have the id"
          f" {token['id']}: it would be {found}"
        )
    backend.encode_special_tokens = True
    return backend

  def _check_frame(self, where: str) -> None:
    cls, sep = self.special.cls, self.special.sep
    with library_errors(where):
      self._backend.encode("A b, 1")  # Some errors appear here.
      single = self._backend.encode("").ids
      pair = self._backend.encode("", "").ids
    if single != [cls, sep] or pair not in (
      [cls, sep, sep],
      [cls, sep, sep, sep],
    ):
      name = self.token
      raise UserError(
        f"{where}: expected a post_processor that adds {name(cls)} before a"
        f" text and {name(sep)} after it, got the ids {single} for an empty"
        f" text and {pair} for a pair"
      )


def _without_space(text: str, span: tuple[int, int]) -> tuple[int, int]:
  start, end = span
  while start < end and text[start].isspace():
    start += 1
  if start == end:
    return span
  while text[end - 1].isspace():
    end -= 1
  return start, end


def _hide(content: Mapping[str, Any], names: Set[str]) -> Set[str]:
  """Renames tokens of a model that would be matched in text; returns them.

  With a space in front they never match, because words have no plain spaces.
  """
  model = content["model"]
  vocab = model["vocab"]
  if isinstance(vocab, list):
    found = names.intersection(piece for piece, _ in vocab)
    model["vocab"] = [
      [" " + piece if piece in found else piece, score]
      for piece, score in vocab
    ]
  elif model_type(content) in BY_WORD:
    found = names & vocab.keys()
    model["vocab"] = {
      " " + token if token in found else token: id
      for token, id in vocab.items()
    }
  else:  # BPE makes only what it has merges for.
    found = set()
  return found


def _continuations(
  tokens: Sequence[str], content: Mapping[str, Any], words: Set[str]
) -> np.ndarray:
  """Whether each token continues a word; those of `words` do not."""
  kind, model = model_type(content), content["model"]
  prefix = model.get("continuing_subword_prefix")
  if prefix is None and kind == "WordPiece":
    prefix = PREFIX

  def continues(token: str) -> bool:
    if prefix:
      return token.startswith(prefix) and token != prefix
    return not token.startswith(_WORD_STARTS)

  if not prefix and not any(
    token.startswith(_WORD_STARTS) for token in tokens if token not in words
  ):
    return np.zeros(len(tokens), bool)
  return np.array(
    [bool(t) and t not in words and continues(t) for t in tokens], bool
  )
