"""Reads the files of tokenizers, with errors that name the file."""

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
"""The names of tokenizer files, other than `.model` files."""
MAX_BYTES = 100_000_000
"""The maximum size of a file. The largest published vocabularies, with a
million tokens, have about half of it."""


def read_bytes(path: pathlib.Path) -> bytes:
  """The content of a file; a `UserError` if it is larger than `MAX_BYTES`."""
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
  """Decodes UTF-8; a `UserError` names the file and line."""
  try:
    return data.decode("utf-8")
  except UnicodeDecodeError as error:
    line = data.count(b"\n", 0, error.start) + 1
    raise UserError(f"{path}, line {line}: invalid UTF-8") from error


def parse_json(data: bytes, path: pathlib.Path) -> dict[str, Any]:
  """Parses a JSON object; a `UserError` names the file."""
  try:
    content = json.loads(decode(data, path))
  except UserError:
    raise
  except (ValueError, RecursionError) as error:
    # An integer with too many digits is a plain ValueError.
    raise UserError(f"{path}: damaged JSON ({error})") from error
  if not isinstance(content, dict):
    raise UserError(f"{path}: expected a JSON object")
  return content


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The JSON object in a file, or a `UserError`."""
  return parse_json(read_bytes(path), path)


def read_settings(folder: pathlib.Path, name: str) -> dict[str, Any]:
  """The JSON object in the file `name` of a folder, or {} without the file."""
  path = folder / name
  return read_json(path) if path.is_file() else {}
