"""Parses the content of a `tokenizer.json`."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import tokenizers

from bert_jax.settings import UserError
from bert_jax.text.config_files import Added, added_token

FILE_NAME = "tokenizer.json"
PREFIX = "##"
"""The prefix of WordPiece tokens that continue a word."""
BY_WORD = ("WordPiece", "WordLevel")
"""The models whose pre-tokenizer leaves no spaces."""
_MAX_ID = 2**22


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
  # Some ids may have no token: see `WordPiece`.
  if len(set(ids.values())) < len(ids) or not all(
    0 <= id < _MAX_ID for id in ids.values()
  ):
    raise UserError(
      f"{where}: expected different ids from 0 to {_MAX_ID - 1} at most"
    )
  return ids


class Frame(NamedTuple):
  """The special tokens around texts, by name, and those between two texts."""

  cls: str
  sep: str
  separators: int


def frame(content: Mapping[str, Any]) -> Frame | None:
  """The frame that a post-processor adds, or None for another layout."""
  try:
    return _frame(content["post_processor"])
  except (AttributeError, IndexError, KeyError, TypeError, ValueError):
    return None


def _frame(step: Mapping[str, Any]) -> Frame | None:
  if step["type"] == "Sequence":
    found = map(_frame, step["processors"])
    return next((frame for frame in found if frame), None)
  if step["type"] in ("BertProcessing", "RobertaProcessing"):
    separators = 1 + (step["type"] == "RobertaProcessing")
    return Frame(step["cls"][0], step["sep"][0], separators)
  if step["type"] != "TemplateProcessing":
    return None
  single, pair = (
    [next(iter(part.items())) for part in step[key]]
    for key in ("single", "pair")
  )
  names = [part["id"] for _, part in single]
  cls, text, sep = names
  separators = len(pair) - 4
  layout = [cls, text, *[sep] * separators, "B", sep]
  if text != "A" or [part["id"] for _, part in pair] != layout:
    return None
  ((cls,), (sep,)) = (step["special_tokens"][x]["tokens"] for x in (cls, sep))
  return Frame(cls, sep, separators)


def own_names(
  content: Mapping[str, Any], ids: Mapping[str, int]
) -> dict[str, str]:
  """The special tokens of a `tokenizer.json`, where the file itself has them.

  They are those around texts, and the unknown token of the model.
  """
  model, around = content["model"], frame(content)
  unknown = model.get("unk_token")
  if isinstance(model["vocab"], list) and type(model.get("unk_id")) is int:
    by_id = {id: token for token, id in ids.items()}
    unknown = by_id.get(model["unk_id"])
  names = {"unknown": unknown}
  if around:
    names |= {"cls": around.cls, "sep": around.sep}
  return {role: name for role, name in names.items() if name in ids}


def with_added(
  content: Mapping[str, Any], added: Mapping[str, Added], where: str
) -> str | None:
  """A `tokenizer.json` with the tokens that the settings next to it add.

  None if it has them; a `UserError` if one cannot have its id.
  """
  there = {x["content"]: added_token(x, where) for x in added_entries(content)}
  new = {
    name: token
    for name, token in added.items()
    if name not in there
    or (token.has_flags and repr(token.token) != repr(there[name]))
  }
  if not new:
    return None
  with library_errors(where):
    backend = tokenizers.Tokenizer.from_str(json.dumps(content))
  add_tokens(backend, new, where)
  return backend.to_str()


def add_tokens(
  backend: tokenizers.Tokenizer, added: Mapping[str, Added], where: str
) -> None:
  """Adds tokens in their order, or raises a `UserError` about an id."""
  for name, (token, id, _) in added.items():
    is_new = backend.token_to_id(name) is None
    taken = set(backend.get_vocab().values()) if is_new else ()
    backend.add_tokens([token])
    found = backend.token_to_id(name)
    if id not in (None, found) or found in taken:
      raise UserError(
        f"{where}: the added token {name!r:.60} cannot have the id"
        f" {found if id is None else id}: it would be {found}"
      )


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
