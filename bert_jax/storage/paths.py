"""Paths on this machine or in an object store, `gs://` and `s3://`.

What is read from a store is copied to a cache first, for memory maps, C++
readers and the like want files; what is written to one is made here and then
put up, its marker last. So nearly all code sees files and folders alone.
"""

import contextlib
import os
import pathlib
import re
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

from bert_jax.settings import UserError
from bert_jax.storage import download_cache, object_stores

Path = str | os.PathLike[str]
"""A path as users give it."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_BLOCK = 32 << 20
_REMOTE = re.compile(r"(gs|s3)://[^/]+(/|$)")


def is_remote(where: Path) -> bool:
  """Whether a path is in an object store.

  Raises:
    UserError: it is an address of another kind.
  """
  text = os.fspath(where)
  if not _ADDRESS.match(text) or os.path.exists(text):
    return False
  if not _REMOTE.match(text):
    raise UserError(
      f"{text}: expected a local path, gs://BUCKET/... or s3://BUCKET/..."
    )
  return True


def as_path(where: Path) -> Any:
  """What `/`, `name`, `parent` and `str` work on, here and in a store.

  Returns:
    A `pathlib.Path`, or an `etils.epath.Path`.

  Raises:
    UserError: as `is_remote`.
  """
  if not is_remote(where):
    return pathlib.Path(where)
  from etils import epath  # Slow, and only paths of stores need it.

  return epath.Path(where)


def local(where: Path) -> pathlib.Path:
  """The path on this machine of a file or folder that is to be read.

  What is in a store is copied to the cache, all of it or nothing, once for
  each of its versions; several processes may ask for it at once.

  Args:
    where: a path; a local one comes back as it is, whether there is such a
      file or not.

  Raises:
    UserError: the store has no such file or folder, or it cannot be reached
      or copied.
  """
  if not is_remote(where):
    return pathlib.Path(where)
  return download_cache.download(os.fspath(where).rstrip("/"))


def find(pattern: Path) -> list[str]:
  """The files in a store that a path or glob pattern names, sorted.

  A path that is the name of a folder names nothing.

  Raises:
    UserError: the store cannot be reached.
  """
  url = os.fspath(pattern)
  with object_stores.open_store(url) as store:
    try:
      paths = [url] if store.isfile(url) else store.glob(url, detail=True)
    except FileNotFoundError:
      return []
    if isinstance(paths, dict):
      files = (k for k, info in paths.items() if info["type"] == "file")
      paths = [f"{object_stores.scheme(url)}://{path}" for path in files]
  return sorted(path for path in paths if not path.endswith("/"))


def exists(where: Path) -> bool:
  """Whether there is such a file or folder.

  Raises:
    UserError: it is in a store that cannot be reached.
  """
  if not is_remote(where):
    return os.path.exists(where)
  with object_stores.open_store(where) as store:
    return store.exists(os.fspath(where))


def is_folder(where: Path) -> bool:
  """Whether there is such a folder; in a store one has something in it.

  Raises:
    UserError: it is in a store that cannot be reached.
  """
  if not is_remote(where):
    return os.path.isdir(where)
  with object_stores.open_store(where) as store:
    return store.isdir(os.fspath(where))


def upload_file(file: Path, where: Path) -> None:
  """Puts a file of this machine into a store, whole or not at all.

  Raises:
    UserError: it could not be written.
  """
  with object_stores.open_for_writing(where) as store:
    store.put_file(os.fspath(file), os.fspath(where))


def upload_folder(folder: Path, where: Path, last: str | None = None) -> None:
  """Puts the files of a folder of this machine into a folder of a store.

  What is there already stays, or is replaced.

  Args:
    folder: of this machine.
    where: of the store.
    last: the name of the file that says that all is there; it is taken away
      before any other file is written, and put after all of them.

  Raises:
    UserError: they could not be written.
  """
  folder, url = pathlib.Path(folder), os.fspath(where).rstrip("/")
  names = [
    path.relative_to(folder).as_posix()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  ]
  if last is not None:
    names.remove(last)
    remove(f"{url}/{last}")
  with object_stores.open_for_writing(url) as store:
    for group in (names, [] if last is None else [last]):
      store.put([str(folder / x) for x in group], [f"{url}/{x}" for x in group])


@contextlib.contextmanager
def staged_folder(where: Path) -> Iterator[pathlib.Path]:
  """A folder of this machine to write to, which is put up at the end.

  Args:
    where: where the files are to be; a local folder is written to itself.

  Raises:
    UserError: they could not be put up.
  """
  if not is_remote(where):
    yield pathlib.Path(where)
    return
  with tempfile.TemporaryDirectory(prefix="bert_jax-") as folder:
    yield pathlib.Path(folder)
    upload_folder(folder, where)


@contextlib.contextmanager
def open_binary(where: Path) -> Iterator[BinaryIO]:
  """A file that is open to be read from its beginning to its end.

  Raises:
    OSError: it cannot be read; in a store, it is not there.
    UserError: the store cannot be reached.
  """
  if not is_remote(where):
    with open(where, "rb") as file:
      yield file
    return
  with (
    object_stores.open_store(where) as store,
    store.open(os.fspath(where), "rb", block_size=_BLOCK) as file,
  ):
    yield file


def read_bytes(where: Path) -> bytes:
  """The content of a small file; raises as `open_binary`."""
  if not is_remote(where):
    return pathlib.Path(where).read_bytes()
  # At once: it may be replaced at any time, which `open_binary` cannot stand.
  with object_stores.open_store(where) as store:
    return store.cat_file(os.fspath(where))


def write_bytes(where: Path, data: bytes) -> None:
  """Writes a file, in a store whole or not at all.

  Raises:
    OSError: it is of this machine and cannot be written.
    UserError: it is in a store and cannot be written.
  """
  if not is_remote(where):
    pathlib.Path(where).write_bytes(data)
    return
  with object_stores.open_for_writing(where) as store:
    store.pipe_file(os.fspath(where), data)


def list_files(folder: Path) -> dict[str, Any]:
  """Every file below a folder, if there is one, by its relative name."""
  if is_remote(folder):
    with object_stores.open_store(folder) as store:
      return {
        name: as_path(folder) / name
        for name in object_stores.list_versions(store, folder)
      }
  return {
    path.relative_to(folder).as_posix(): path
    for path in pathlib.Path(folder).rglob("*")
    if not path.is_dir()
  }


def list_names(folder: Path, kind: str | None = "file") -> list[str]:
  """What is in a folder, if there is one.

  Args:
    folder: the folder.
    kind: "file", "directory" or None for both.
  """
  if not is_remote(folder):
    paths = pathlib.Path(folder).iterdir() if os.path.isdir(folder) else ()
    return [
      path.name
      for path in paths
      if kind is None or path.is_dir() == (kind == "directory")
    ]
  with object_stores.open_store(folder) as store:
    try:
      found = store.ls(os.fspath(folder), detail=True)
    except FileNotFoundError:
      return []
  found = [x["name"].rstrip("/") for x in found if kind in (x["type"], None)]
  return [name.rpartition("/")[2] for name in found]


def remove(where: Path) -> None:
  """Removes a file, or a folder with all that is in it, from a store.

  Raises:
    UserError: it could not be removed.
  """
  with (
    object_stores.open_store(where) as store,
    contextlib.suppress(FileNotFoundError),
  ):
    store.rm(os.fspath(where), recursive=True)
