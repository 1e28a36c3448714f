"""Folders and files that are written atomically."""

import contextlib
import fcntl
import os
import pathlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from typing import Any

from bert_jax import settings
from bert_jax.storage import checksums, paths


@contextlib.contextmanager
def locked_folder(partial: pathlib.Path) -> Iterator[None]:
  """An empty folder that this process has locked; removed after an error.

  Raises:
    UserError: another process has locked it.
    OSError: it cannot be created.
  """
  partial.mkdir(parents=True, exist_ok=True)
  descriptor = os.open(partial, os.O_RDONLY)
  try:
    # The lock is released when the process ends, also by a kill.
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    os.close(descriptor)
    raise settings.UserError(
      f"{partial} is in use by another run; wait for it, or choose another"
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
  """An empty local folder that becomes `output` when the block ends.

  The folder is `OUTPUT.partial`, or a temporary one if the output is in a
  store.

  `last` is the name of the marker file; see `paths.upload_folder`.

  Raises:
    UserError: another process is writing to the folder, or the store refuses
      the upload.
    OSError: the folder cannot be created.
  """
  if not paths.is_remote(output):
    # Worker processes may have another current directory.
    output = pathlib.Path(output).absolute()
    partial = output.with_name(output.name + ".partial")
    with locked_folder(partial):
      yield partial
      put_in_place(partial, output)
    return
  # A store without write access fails now, not at the end of the work.
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
    raise settings.UserError(
      f"{error}; the output is kept in {folder}"
    ) from None
  shutil.rmtree(folder)


def check_new(output: paths.Path) -> None:
  """Refuses a place for a new folder where there is something already.

  Raises:
    UserError: it is a file, or a folder that is not empty.
  """
  if paths.exists(output) and (
    not paths.is_folder(output) or paths.list_names(output, None)
  ):
    raise settings.UserError(f"{output} is not empty; choose a new folder")


@contextlib.contextmanager
def shared_folder(
  output: paths.Path, folder: pathlib.Path
) -> Iterator[paths.Path]:
  """A folder that all machines of a cluster can access.

  It is `folder`, from `atomic_folder(output)`; or for an output in a store a
  temporary folder next to the output, which is removed when the block ends.
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
  """Downloads the files of a folder in a store to a local folder."""
  for name in paths.list_names(where):
    with (
      paths.open_binary(f"{where}/{name}") as source,
      (folder / name).open("wb") as copy,
    ):
      shutil.copyfileobj(source, copy, 1 << 20)


@contextlib.contextmanager
def staging(folder: paths.Path, scratch: paths.Path) -> Iterator[pathlib.Path]:
  """A new local folder whose files move to `folder` when the block ends.

  Two machines that do the same work at once, which happens when a cluster
  takes one of them for lost, do not mix their files.

  Files of the same name are replaced. `scratch` is the parent of the new
  folder, on the same file system; not used if `folder` is in a store.

  Raises:
    UserError: the store refuses the upload.
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
  """Writes a text file atomically, locally or in a store.

  Lone surrogates, which UTF-8 cannot encode, are written as escapes.

  Raises:
    OSError: a local file cannot be written.
    UserError: a file in a store cannot be written.
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
      size, digest = checksums.size_and_sha256(file)
    entries[path.name] = {"bytes": size, "sha256": digest}
  return entries


def put_in_place(partial: pathlib.Path, output: pathlib.Path) -> None:
  """Renames `partial` to `output`, and removes an older `output`."""
  old = output.with_name(output.name + ".old")
  shutil.rmtree(old, ignore_errors=True)
  if output.exists():
    output.rename(old)
  partial.rename(output)
  shutil.rmtree(old, ignore_errors=True)
