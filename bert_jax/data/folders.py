"""Folders and files that appear whole or not at all."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator
from typing import Any

from bert_jax import settings


@contextlib.contextmanager
def exclusive(partial: pathlib.Path) -> Iterator[None]:
  """An empty folder for this process alone, removed if work fails.

  Raises:
    UserError: another process has it.
    OSError: it cannot be made.
  """
  partial.mkdir(parents=True, exist_ok=True)
  descriptor = os.open(partial, os.O_RDONLY)
  try:
    # The lock goes with the process, however that ends.
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    os.close(descriptor)
    raise settings.UserError(
      f"another run is at work in {partial}; wait for it, or name another"
      " --output"
    ) from None
  try:
    for path in partial.iterdir():
      shutil.rmtree(path) if path.is_dir() else path.unlink()
    yield
  except BaseException:
    shutil.rmtree(partial, ignore_errors=True)
    raise
  finally:
    os.close(descriptor)


@contextlib.contextmanager
def filling(
  folder: pathlib.Path, scratch: pathlib.Path
) -> Iterator[pathlib.Path]:
  """A new folder whose files, once all are whole, go to `folder`.

  So two that do the same work at once, as a cluster's machines may when one
  of them seems lost, do not mix their files.

  Args:
    folder: where the files go, in the place of any of the same name.
    scratch: where they are until then, on the same file system.
  """
  with tempfile.TemporaryDirectory(dir=scratch) as name:
    yield pathlib.Path(name)
    for path in pathlib.Path(name).iterdir():
      path.replace(folder / path.name)


def write_text(path: pathlib.Path, text: str) -> None:
  """Writes a file in the place of the one that is there, if any.

  Characters that UTF-8 does not have are written as escapes.
  """
  partial = path.with_name(path.name + ".partial")
  partial.write_text(text, encoding="utf-8", errors="backslashreplace")
  partial.replace(path)


def file_entries(folder: pathlib.Path) -> dict[str, dict[str, Any]]:
  """Size and SHA-256 of each file of a folder, by name."""
  entries = {}
  for path in sorted(folder.iterdir()):
    with path.open("rb") as file:
      digest = hashlib.file_digest(file, "sha256").hexdigest()
    entries[path.name] = {"bytes": path.stat().st_size, "sha256": digest}
  return entries


def put_in_place(partial: pathlib.Path, output: pathlib.Path) -> None:
  """Renames `partial` to `output`, which is replaced if it is there."""
  old = output.with_name(output.name + ".old")
  shutil.rmtree(old, ignore_errors=True)
  if output.exists():
    output.rename(old)
  partial.rename(output)
  shutil.rmtree(old, ignore_errors=True)
