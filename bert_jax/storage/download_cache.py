"""Copies on this machine of what is in object stores."""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import fsspec

from bert_jax.settings import UserError
from bert_jax.storage import object_stores


def cache_folder() -> pathlib.Path:
  """The folder for what can be made again; it may be removed."""
  home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return pathlib.Path(home).expanduser() / "bert_jax"


def download(url: str) -> pathlib.Path:
  """A copy of a file or folder, made if there is none of this version.

  Raises:
    UserError: the store has no such file or folder, or it cannot be reached
      or copied.
  """
  with object_stores.open_store(url) as store:
    try:
      found = object_stores.list_versions(store, url)
    except FileNotFoundError:
      found = {}
    if not found:
      raise UserError(f"{url}: no such file or folder")
    home = cache_folder() / "copies" / _hash(url)
    copy = home / _hash(found) / url.rpartition("/")[2]
    if not copy.exists():
      with _alone(home):
        if not copy.exists():
          _copy(store, url, found, copy)
  return copy


def _hash(content: Any) -> str:
  text = json.dumps(content, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:20]


@contextlib.contextmanager
def _alone(folder: pathlib.Path) -> Iterator[None]:
  """Waits until no other process of this machine is at work in a folder."""
  folder.mkdir(parents=True, exist_ok=True)
  with (folder / ".lock").open("w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)  # It goes with the process.
    yield


def _copy(
  store: fsspec.AbstractFileSystem,
  url: str,
  found: dict[str, list[Any]],
  copy: pathlib.Path,
) -> None:
  """Copies the files that were found; the folder above appears at the end."""
  partial = copy.parents[1] / "partial"
  shutil.rmtree(partial, ignore_errors=True)
  base = partial / copy.name
  remote = [f"{url}/{name}" if name else url for name in found]
  here = [base / name if name else base for name in found]
  for path in here:
    path.parent.mkdir(parents=True, exist_ok=True)
  try:
    store.get(remote, [str(path) for path in here])
    for path, (size, *_) in zip(here, found.values()):
      if path.stat().st_size != size:
        raise UserError(f"{url}: was changed while it was copied; try again")
    partial.rename(copy.parent)
  except BaseException:
    shutil.rmtree(partial, ignore_errors=True)
    raise
