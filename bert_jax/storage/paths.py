"""Local paths and paths in object stores, `gs://` and `s3://`.

Files are read from a store through the download cache, because memory maps and
C++ readers need local files. They are written to a local folder and uploaded
when complete, the marker file last. So nearly all code works on local files.

All functions raise a `UserError` if a store cannot be reached or refuses.
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
"""A path as given by a user: local, `gs://...` or `s3://...`."""

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_BLOCK = 32 << 20
_REMOTE = re.compile(r"(gs|s3)://[^/]+(/|$)")


def is_remote(where: Path) -> bool:
  """Whether a path is in a store; a `UserError` for a URL of another kind."""
  text = os.fspath(where)
  if not _ADDRESS.match(text) or os.path.exists(text):
    return False
  if not _REMOTE.match(text):
    raise UserError(
      f"{text}: expected a local path, gs://BUCKET/... or s3://BUCKET/..."
    )
  return True


def as_path(where: Path) -> Any:
  """A `pathlib.Path`, or an `etils.epath.Path` for a path in a store."""
  if not is_remote(where):
    return pathlib.Path(where)
  from etils import epath  # Slow to import.

  object_stores.configure()
  return epath.Path(where)


def local(where: Path) -> pathlib.Path:
  """A local path to read a file or folder from.

  A local path is returned unchanged, even if nothing is there. A path in a
  store is downloaded; see `download_cache`.

  Raises:
    UserError: the store has no such file or folder, cannot be reached, or the
      copy cannot be written.
  """
  if not is_remote(where):
    return pathlib.Path(where)
  return download_cache.download(os.fspath(where).rstrip("/"))


def find(pattern: Path) -> list[str]:
  """The files, not folders, in a store that match a path or pattern, sorted."""
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
  """Whether a file or folder exists."""
  if not is_remote(where):
    return os.path.exists(where)
  with object_stores.open_store(where) as store:
    return store.exists(os.fspath(where))


def is_folder(where: Path) -> bool:
  """Whether a path is a folder; stores have no empty folders."""
  if not is_remote(where):
    return os.path.isdir(where)
  with object_stores.open_store(where) as store:
    return store.isdir(os.fspath(where))


def upload_file(file: Path, where: Path) -> None:
  """Uploads a local file to a store, atomically."""
  with object_stores.open_store(where, writing=True) as store:
    store.put_file(os.fspath(file), os.fspath(where))


def upload_folder(folder: Path, where: Path, last: str | None = None) -> None:
  """Uploads the files of a local folder to a folder in a store.

  Files of the same name are replaced; others stay.

  The marker file `last` means that the folder is complete: it is removed before
  the upload and uploaded last.
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
  with object_stores.open_store(url, writing=True) as store:
    for group in (names, [] if last is None else [last]):
      store.put([str(folder / x) for x in group], [f"{url}/{x}" for x in group])


@contextlib.contextmanager
def staged_folder(where: Path) -> Iterator[pathlib.Path]:
  """A local folder whose files are uploaded to `where` when the block ends.

  If `where` is local, it is the folder.
  """
  if not is_remote(where):
    yield pathlib.Path(where)
    return
  with tempfile.TemporaryDirectory(prefix="bert_jax-") as folder:
    yield pathlib.Path(folder)
    upload_folder(folder, where)


@contextlib.contextmanager
def open_binary(where: Path) -> Iterator[BinaryIO]:
  """A file opened for sequential reading.

  Raises:
    OSError: a local file cannot be read, or the store has no such file.
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
  """The content of a small file; raises the errors of `open_binary`."""
  if not is_remote(where):
    return pathlib.Path(where).read_bytes()
  # In one request: `open_binary` fails if the file is replaced meanwhile.
  with object_stores.open_store(where) as store:
    return store.cat_file(os.fspath(where))


def write_bytes(where: Path, data: bytes) -> None:
  """Writes a file; in a store, atomically."""
  if not is_remote(where):
    pathlib.Path(where).write_bytes(data)
    return
  with object_stores.open_store(where, writing=True) as store:
    store.pipe_file(os.fspath(where), data)


def list_files(folder: Path) -> dict[str, Any]:
  """The paths of all files below a folder, by relative name.

  A folder that does not exist has no files.
  """
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
  """The names in a folder; none if the folder does not exist.

  `kind` is "file", "directory" or None for both.
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
  """Removes a file or folder from a store, if it exists."""
  with (
    object_stores.open_store(where) as store,
    contextlib.suppress(FileNotFoundError),
  ):
    store.rm(os.fspath(where), recursive=True)
