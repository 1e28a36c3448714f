"""The content of a `tokenizer.json`, the format of the library `tokenizers`."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from bert_jax.settings import UserError
from bert_jax.text.config_files import added_token

FILE_NAME = "tokenizer.json"


def added(content: Mapping[str, Any]) -> list[dict[str, Any]]:
  """The entries of the tokens that were added to the vocabulary."""
  return content.get("added_tokens") or []


def model_type(content: Mapping[str, Any]) -> str:
  """The kind of model, such as `WordPiece`."""
  model = content.get("model")
  if not isinstance(model, dict):
    return "None"
  if "type" in model:
    return str(model["type"])
  # Files of 2020 and 2021 leave it out.
  if "merges" in model:
    return "BPE"
  return "Unigram" if "unk_id" in model else "WordPiece"


def token_ids(content: Mapping[str, Any], where: str) -> dict[str, int]:
  """The id of each token in the content of a `tokenizer.json`.

  Raises:
    UserError: the vocabulary is damaged: a token or an id is there twice or
      an id is left out.
  """
  model = content.get("model")
  vocab = model.get("vocab") if isinstance(model, dict) else None
  if not isinstance(vocab, list | dict):
    raise UserError(f"{where}: expected a model with a vocabulary")
  try:
    if isinstance(vocab, list):
      ids = {piece: id for id, (piece, _) in enumerate(vocab)}
      if len(ids) < len(vocab):
        raise ValueError("a piece is there twice")
    else:
      ids = dict(vocab)
    for token in added(content):
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
    raise UserError(f"{where}: ids are not 0 to {len(ids) - 1}, each once")
  return ids


@contextlib.contextmanager
def library(where: str) -> Iterator[None]:
  """Runs the library on a file that it may refuse or stumble over.

  Raises:
    UserError: it did; the message starts with `where`.
  """
  try:
    yield
  except (KeyboardInterrupt, SystemExit, MemoryError, UserError):
    raise
  except BaseException as error:  # A panic inside it is no Exception.
    reason = " ".join(str(error).split())
    raise UserError(f"{where}: no tokenizer ({reason:.200})") from error
