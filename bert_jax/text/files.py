"""Reading a tokenizer's files, whoever wrote them."""

import json
import pathlib
from typing import Any

from bert_jax.settings import UserError

NAMES = (
  "tokenizer.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "vocab.txt",
  "vocab.json",
  "merges.txt",
)
"""The files that a tokenizer's folder may hold, besides a `.model`."""
MAX_BYTES = 100_000_000
"""A larger file is refused unread; the largest published vocabularies, of a
million pieces, take about half of this."""


def read_bytes(path: pathlib.Path) -> bytes:
  """The content of a file.

  Raises:
    UserError: it cannot be read, or is larger than any vocabulary.
  """
  try:
    with path.open("rb") as file:
      data = file.read(MAX_BYTES + 1)
  except OSError as error:
    raise UserError(f"{path}: {error.strerror}") from error
  if len(data) > MAX_BYTES:
    raise UserError(
      f"{path}: larger than {MAX_BYTES // 10**6} MB; expected a tokenizer"
    )
  return data


def decode(data: bytes, path: pathlib.Path) -> str:
  """The text of a file's bytes.

  Raises:
    UserError: they are no UTF-8; the message names the line.
  """
  try:
    return data.decode("utf-8")
  except UnicodeDecodeError as error:
    line = data.count(b"\n", 0, error.start) + 1
    raise UserError(f"{path}, line {line}: invalid UTF-8") from error


def parse_json(data: bytes, path: pathlib.Path) -> dict[str, Any]:
  """The JSON object that a file's bytes hold.

  Raises:
    UserError: they hold none.
  """
  try:
    content = json.loads(decode(data, path))
  except UserError:
    raise
  except (ValueError, RecursionError) as error:
    # Not only JSONDecodeError: an integer may have too many digits.
    raise UserError(f"{path}: damaged JSON ({error})") from error
  if not isinstance(content, dict):
    raise UserError(f"{path}: expected a JSON object")
  return content


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The JSON object in a file.

  Raises:
    UserError: the file cannot be read or holds none.
  """
  return parse_json(read_bytes(path), path)


def read_settings(folder: pathlib.Path, name: str) -> dict[str, Any]:
  """The JSON object in a folder's file `name`, empty where there is none.

  Raises:
    UserError: the file is there but holds none.
  """
  path = folder / name
  return read_json(path) if path.is_file() else {}
