"""Tokenizers defined by a `tokenizer.json`, and the parsing of that format.

They are the byte-level BPE of RoBERTa and ModernBERT (Sennrich et al., 2016;
Radford et al., 2019) and the Unigram model of ALBERT and XLM-R (Kudo, 2018).
"""

import contextlib
import functools
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
import tokenizers

from bert_jax.settings import UserError
from bert_jax.text.config_files import CONFIG, added_token
from bert_jax.text.tokenizer import (
  Encoding,
  SpecialIds,
  TokenizersBackend,
  check_text,
)

FILE_NAME = "tokenizer.json"

_FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
_WORD_STARTS = ("Ġ", "▁", " ")
"""The first character of tokens that start a word: the space of byte-level BPE,
of SentencePiece, and a plain one."""


class JsonTokenizer(TokenizersBackend):
  """A `Tokenizer` that is defined by a `tokenizer.json`.

  Special tokens are never parsed from text, unlike in Transformers. Other
  tokens added to the vocabulary are, as in Transformers.

  A token continues a word if it does not start with a space. Offsets exclude
  leading and trailing white space, unless the token is nothing else;
  Transformers does so only for RoBERTa. If normalization makes several tokens
  of one character, each has the offsets of that character.
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
      names: the token of each field of `SpecialIds`.
      settings: the content of `tokenizer_config.json` that `save` writes. Its
        `add_prefix_space` overrides that of `tokenizer.json`, as in
        Transformers.
      where: the name of the file in messages.

    Raises:
      UserError: the file is not a tokenizer, the ids are not unique and
        contiguous, or texts are not encoded between special tokens.
    """
    self._files = dict(files)
    self._names = dict(names)
    self._settings = dict(settings)
    content = json.loads(self._files[FILE_NAME])
    ids = token_ids(content, where)
    self.tokens = tuple(sorted(ids, key=ids.__getitem__))
    self.special = SpecialIds(
      **{role: ids[name] for role, name in names.items()}
    )
    special = {
      token["content"]
      for token in added_entries(content)
      if token.get("special")
    }.union(names.values())
    self._special_ids = frozenset(ids[name] for name in special)
    self.continuations = np.array(
      [
        not token.startswith(_WORD_STARTS) and token not in special
        for token in self.tokens
      ]
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
    added: Mapping[int, tokenizers.AddedToken],
    where: str,
  ) -> Self:
    """Creates the tokenizer of files that are older than `tokenizer.json`.

    The mask includes the space before it, as in the families of these files.

    `backend` has no added tokens; `added` has them by id.

    Raises:
      UserError: an added token cannot have its id; see also `JsonTokenizer`.
    """
    listed = {token.content for token in added.values()}
    for role, name in names.items():
      if name not in listed:
        token = tokenizers.AddedToken(
          name, lstrip=role == "mask", normalized=False, special=True
        )
        backend.add_special_tokens([token])
    for id, token in sorted(added.items()):
      add = backend.add_special_tokens if token.special else backend.add_tokens
      add([token])
      if (found := backend.token_to_id(token.content)) != id:
        raise UserError(
          f"{where}: the added token {token.content!r} cannot have the id"
          f" {id}: it would be {found}"
        )
    written = {**files, FILE_NAME: backend.to_str().encode()}
    return cls(written, names, settings, where)

  def __reduce__(self):
    return type(self), (self._files, self._names, self._settings)

  def _encode(
    self, backend: tokenizers.Tokenizer, text: str, pair: str | None
  ) -> Encoding:
    texts = [check_text(text)]
    if pair is not None:
      texts.append(check_text(pair, "pair"))
    encoding = backend.encode(*texts)
    first = encoding.ids.index(self.special.sep) + 1
    segments = [0] * first + [1] * (len(encoding.ids) - first)
    offsets = [
      _without_space(texts[segment], span)
      for segment, span in zip(segments, encoding.offsets)
    ]
    return Encoding(encoding.ids, segments, offsets)

  def decode(self, ids: Sequence[int]) -> str:
    """See `Tokenizer.decode`."""
    for id in ids:
      self.token(id)
    return self._backend.decode(
      [int(id) for id in ids if id not in self._special_ids]
    )

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

  @functools.cached_property
  def _masking_backend(self) -> tokenizers.Tokenizer:
    """The backend that parses the mask in text, and no other special token.

    Created on first use, because it holds a second vocabulary in memory.
    """
    content = json.loads(self._files[FILE_NAME])
    return self._make(content, FILE_NAME, find=self._names["mask"])

  def _make(
    self, content: dict[str, Any], where: str, find: str | None = None
  ) -> tokenizers.Tokenizer:
    """Creates a backend that parses only the special token `find` in text."""
    listed = {token["content"]: token for token in added_entries(content)}
    for name in self._names.values():
      listed.setdefault(name, {"content": name, "id": self.tokens.index(name)})
      listed[name] = _FLAGS | listed[name] | {"special": name != find}
    model = content["model"]
    if isinstance(model["vocab"], list):
      # Unigram would parse the names of special tokens in text. With a space in
      # front they never match, because its input has no plain spaces.
      vocab = model["vocab"] = list(model["vocab"])
      for name, token in list(listed.items()):
        if token.get("special") and token["id"] < len(vocab):
          vocab[token["id"]] = [" " + name, vocab[token["id"]][1]]
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


def added_entries(content: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The entries of `added_tokens`."""
  return content.get("added_tokens") or []


def model_type(content: Mapping[str, Any]) -> str:
  """The type of the model, for instance `WordPiece`."""
  model = content.get("model")
  if not isinstance(model, dict):
    return "None"
  if "type" in model:
    return str(model["type"])
  # Files of 2020 and 2021 have no type.
  if "merges" in model:
    return "BPE"
  return "Unigram" if "unk_id" in model else "WordPiece"


def token_ids(content: Mapping[str, Any], where: str) -> dict[str, int]:
  """The id of each token in the content of a `tokenizer.json`.

  Raises:
    UserError: the vocabulary is malformed, or ids are not unique, contiguous.
  """
  model = content.get("model")
  vocab = model.get("vocab") if isinstance(model, dict) else None
  if not isinstance(vocab, list | dict):
    raise UserError(f"{where}: expected a model with a vocabulary")
  try:
    if isinstance(vocab, list):
      ids = {piece: id for id, (piece, _) in enumerate(vocab)}
      if len(ids) < len(vocab):
        raise ValueError("a piece is duplicate")
    else:
      ids = dict(vocab)
    for token in added_entries(content):
      added_token(token, where)
      if ids.setdefault(token["content"], token["id"]) != token["id"]:
        raise ValueError(f"{token['content']!r} has two ids")
    for token, id in ids.items():
      if not isinstance(token, str) or type(id) is not int:
        raise ValueError(f"{token!r:.60}: {id!r:.60}")
  except UserError:
    raise
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise UserError(f"{where}: damaged vocabulary ({error!r:.150})") from error
  if sorted(ids.values()) != list(range(len(ids))):
    raise UserError(f"{where}: expected the ids 0 to {len(ids) - 1}, each once")
  return ids


@contextlib.contextmanager
def library_errors(where: str) -> Iterator[None]:
  """Makes errors of the `tokenizers` library a `UserError` about `where`."""
  try:
    yield
  except (KeyboardInterrupt, SystemExit, MemoryError, UserError):
    raise
  except BaseException as error:  # A panic in Rust is not an Exception.
    reason = " ".join(str(error).split())
    raise UserError(f"{where}: not a tokenizer ({reason:.200})") from error
