"""Folders and files that appear whole or not at all."""

import contextlib
import fcntl
import hashlib
import os
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

from bert_jax import settings
from bert_jax.storage import paths


@contextlib.contextmanager
def locked_folder(partial: pathlib.Path) -> Iterator[None]:
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
def atomic_folder(output: paths.Path, last: str) -> Iterator[pathlib.Path]:
  """An empty folder of this machine, which becomes `output` at the end.

  It is `OUTPUT.partial`; that of an output in a store is a temporary one.

  Args:
    output: here or in a store; what is there is replaced.
    last: the name of the file that says that all is there.

  Raises:
    UserError: another process has the folder, or the store refuses it.
    OSError: it cannot be made.
  """
  if not paths.is_remote(output):
    # Workers may have another current directory.
    output = pathlib.Path(output).absolute()
    partial = output.with_name(output.name + ".partial")
    with locked_folder(partial):
      yield partial
      put_in_place(partial, output)
    return
  # A store that takes nothing should say so now, not at the end.
  paths.write_bytes(f"{output}.partial", b"")
  paths.remove(f"{output}.partial")
  folder = pathlib.Path(tempfile.mkdtemp(prefix="bert_jax-"))
  try:
    yield folder
  except BaseException:
    shutil.rmtree(folder, ignore_errors=True)
    raise
  try:
    paths.upload_folder(folder, output, last)
    for name in set(paths.list_names(output)) - set(os.listdir(folder)):
      paths.remove(f"{output}/{name}")
  except settings.UserError as error:
    raise settings.UserError(f"{error}; {folder} keeps what was made") from None
  shutil.rmtree(folder)


@contextlib.contextmanager
def shared_folder(
  output: paths.Path, folder: pathlib.Path
) -> Iterator[paths.Path]:
  """A folder that all machines see which see an output.

  Args:
    output: here, for instance in a folder of the network, or in a store.
    folder: what `atomic_folder` gives for the output; it is this, but for
      one in a store a new one beside it, which is removed at the end.
  """
  if not paths.is_remote(output):
    yield folder
    return
  where = f"{output}.partial-{uuid.uuid4().hex[:8]}"
  try:
    yield where
  finally:
    with contextlib.suppress(settings.UserError):
      paths.remove(where)


def download(where: str, folder: pathlib.Path) -> None:
  """Copies the files of a folder in a store.

  Raises:
    UserError: the store cannot be reached.
    OSError: a copy cannot be written.
  """
  for name in paths.list_names(where):
    with (
      paths.open_binary(f"{where}/{name}") as source,
      (folder / name).open("wb") as copy,
    ):
      shutil.copyfileobj(source, copy, 1 << 20)


@contextlib.contextmanager
def staging(folder: paths.Path, scratch: paths.Path) -> Iterator[pathlib.Path]:
  """A new folder of this machine whose files, once whole, go to `folder`.

  So two that do the same work at once, as a cluster's machines may when one
  of them seems lost, do not mix their files.

  Args:
    folder: where the files go, in the place of any of the same name.
    scratch: where they are until then, on the same file system; where that
      is a store, they are in a temporary folder.

  Raises:
    UserError: the store refuses them.
  """
  is_remote = paths.is_remote(folder)
  with tempfile.TemporaryDirectory(dir=None if is_remote else scratch) as name:
    yield pathlib.Path(name)
    if is_remote:
      paths.upload_folder(name, folder)
    else:
      for path in pathlib.Path(name).iterdir():
        path.replace(pathlib.Path(folder) / path.name)


def write_text(where: paths.Path, text: str) -> None:
  """Writes a file, here or in a store, in the place of the one that is there.

  Characters that UTF-8 does not have are written as escapes.

  Raises:
    OSError: it is of this machine and cannot be written.
    UserError: it is in a store and cannot be written.
  """
  data = text.encode("utf-8", errors="backslashreplace")
  if paths.is_remote(where):
    paths.write_bytes(where, data)
    return
  path = pathlib.Path(where)
  partial = path.with_name(path.name + ".partial")
  partial.write_bytes(data)
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
