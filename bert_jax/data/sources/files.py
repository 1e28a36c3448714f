"""Finding, naming and decompressing the files that a source reads."""

import glob
import gzip
import os
import pathlib
import re
import shutil
import zlib
from typing import Any

from bert_jax import settings
from bert_jax.storage import checksums
from bert_jax.storage import paths as paths_lib

_OTHER_FORMATS = (
  ".xz",
  ".bz2",
  ".zst",
  ".zip",
  ".7z",
  ".tar",
  ".tgz",
  ".tar.gz",
  ".parquet",
)

# What the error handler "surrogateescape" makes of bytes that are not UTF-8.
_BAD_BYTE = re.compile("[\udc80-\udcff]")


def replace_bad_bytes(text: str) -> tuple[str, int]:
  """Text decoded with "surrogateescape", with U+FFFD for each bad byte."""
  return (text, 0) if text.isascii() else _BAD_BYTE.subn("\ufffd", text)


def find(patterns: tuple[str, ...], key: str) -> list[str]:
  """The files that glob patterns name, sorted and each once.

  Args:
    patterns: glob patterns, `**` for any folders.
    key: the config key to name in errors.

  Returns:
    Paths as the patterns have them: `paths.local` finds those in a store.

  Raises:
    UserError: a pattern matches no file, or something that cannot be read.
  """
  if not patterns:
    raise settings.UserError(f"{key}: name at least one file or pattern")
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
        f"{key}: {path} is not text; known are text and JSON lines,"
        " as they are or with .gz"
      )
    if not paths_lib.is_remote(path) and not os.access(path, os.R_OK):
      raise settings.UserError(f"{key}: {path} cannot be read")
  return sorted(found)


def matches(pattern: str, key: str) -> tuple[list[str], list[str]]:
  """The folders and the files that a path or glob pattern names.

  Raises:
    UserError: the store that it is in cannot be reached.
  """
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
  """The path of the text of `name`: itself, or `scratch` if it is gzip'd.

  Raises:
    UserError: the gzip file is damaged.
  """
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
