"""Finds, describes and decompresses the files of a source."""

import contextlib
import glob
import gzip
import json
import os
import pathlib
import re
import shutil
import zlib
from typing import Any

from bert_jax import settings
from bert_jax.storage import checksums
from bert_jax.storage import paths as paths_lib

# fmt: off
_OTHER_FORMATS = (
  ".xz", ".bz2", ".zst", ".zip", ".7z", ".tar", ".tgz", ".tar.gz", ".parquet"
)
# fmt: on

# Bytes that are not UTF-8, by "surrogateescape", and halves of pairs in JSON.
_SURROGATE = re.compile("[\ud800-\udfff]")


def replace_surrogates(text: str) -> tuple[str, int]:
  """Replaces lone surrogates by U+FFFD, and counts them."""
  return (text, 0) if text.isascii() else _SURROGATE.subn("\ufffd", text)


def split(given: str | tuple[str, ...]) -> tuple[str, ...]:
  """Paths and patterns: given as several, or as a text with commas between.

  A text may be a JSON list too, `["a, b.tsv"]`: its items are used as they are.
  """
  if not isinstance(given, str):
    return tuple(given)
  if given.lstrip().startswith("["):
    with contextlib.suppress(ValueError):
      found = json.loads(given)
      if all(isinstance(path, str) for path in found):
        return tuple(found)
  return tuple(filter(None, map(str.strip, given.split(","))))


def find(patterns: tuple[str, ...], key: str) -> list[str]:
  """The files that match glob patterns, sorted and without duplicates.

  Patterns are local or in a store; `**` matches any folders. `key` is the
  config key for messages.

  Raises:
    UserError: a pattern matches no file, or a file that cannot be read.
  """
  if not patterns:
    raise settings.UserError(f"{key}: expected at least one file or pattern")
  found = set()
  for pattern in patterns:
    folders, files = matches(pattern, key)
    if not files:
      what = "is a folder; add /*" if folders else "matches no file"
      raise settings.UserError(f"{key}: {pattern!r} {what}")
    found.update(files)
  for path in found:
    if path.lower().endswith(_OTHER_FORMATS):
      raise settings.UserError(
        f"{key}: {path} is not text; expected text or JSON lines, optionally"
        " with .gz"
      )
    if not paths_lib.is_remote(path) and not os.access(path, os.R_OK):
      raise settings.UserError(f"{key}: {path} cannot be read")
  return sorted(found)


def matches(pattern: str, key: str) -> tuple[list[str], list[str]]:
  """The folders and the files that match a path or glob pattern."""
  try:
    if paths_lib.is_remote(pattern):
      files = paths_lib.find(pattern)
      is_folder = not files and paths_lib.is_folder(pattern)
      return [pattern] if is_folder else [], files
  except settings.UserError as error:
    raise settings.UserError(f"{key}: {error}") from error
  expanded = os.path.expanduser(pattern)
  is_there = os.path.exists(expanded)
  found = [expanded] if is_there else glob.glob(expanded, recursive=True)
  return (
    sorted(filter(os.path.isdir, found)),
    sorted(filter(os.path.isfile, found)),
  )


def describe(paths: list[str]) -> list[dict[str, Any]]:
  """Names, sizes and SHA-256 of files."""
  described = []
  for path in paths:
    with paths_lib.local(path).open("rb") as file:
      size, digest = checksums.size_and_sha256(file)
      described.append({"file": path, "bytes": size, "sha256": digest})
  return described


def decompressed(name: str, scratch: pathlib.Path) -> str:
  """The path of the text of a file: itself, or decompressed at `scratch`."""
  path = paths_lib.local(name)
  with path.open("rb") as file:
    if file.read(2) != b"\x1f\x8b":
      return name
  try:
    with gzip.open(path, "rb") as source, open(scratch, "wb") as copy:
      shutil.copyfileobj(source, copy, 1 << 20)
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise settings.UserError(
      f"{name}: damaged or incomplete gzip file ({error})"
    ) from None
  return str(scratch)
