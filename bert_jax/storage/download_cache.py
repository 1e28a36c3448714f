"""The download cache: local copies of files and folders in object stores."""

import fcntl
import hashlib
import json
import os
import pathlib
import shutil
from typing import TYPE_CHECKING, Any

from bert_jax.settings import UserError
from bert_jax.storage import object_stores

if TYPE_CHECKING:
  import fsspec


def cache_folder() -> pathlib.Path:
  """The folder of all caches: `$XDG_CACHE_HOME/bert_jax`; safe to delete."""
  home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  return pathlib.Path(home).expanduser() / "bert_jax"


def download(url: str) -> pathlib.Path:
  """The local copy of a file or folder, downloaded unless it is up to date.

  Each version of the objects has its own copy, so that readers of an older
  version are not disturbed. Concurrent callers download once.

  Raises:
    UserError: the store has no such file or folder, cannot be reached, or the
      copy cannot be written.
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
      home.mkdir(parents=True, exist_ok=True)
      with (home / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # Released when the process ends.
        if not copy.exists():
          _copy(store, url, found, copy)
  return copy


def _hash(content: Any) -> str:
  text = json.dumps(content, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:20]


def _copy(
  store: "fsspec.AbstractFileSystem",
  url: str,
  found: dict[str, list[Any]],
  copy: pathlib.Path,
) -> None:
  """Downloads the listed files, and renames their folder when complete."""
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
        raise UserError(f"{url}: changed during the download; try again")
    partial.rename(copy.parent)
  except BaseException:
    shutil.rmtree(partial, ignore_errors=True)
    raise
