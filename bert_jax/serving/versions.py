"""Folders of versions: which are complete, and in which order."""

import hashlib
import os
import pathlib
import re

from bert_jax.settings import UserError

EXPORTED = "manifest.json"
"""The file that an export has last."""
MODEL = "bert_jax.json"
"""The file of a model in our own format."""

# A folder with one of these is a model, and no folder of versions.
_MARKERS = (
  EXPORTED,
  MODEL,
  "adapter_config.json",
  "config.json",
  "bert_config.json",
)
# A number or a date: 3, v3, 1.2.0, 2026-11-28, 20261128T120000.
_VERSION = re.compile(r"v?\d+(?:[-_.T:]?\d+)*Z?")

Key = tuple[int, ...]


def is_local(where: str) -> bool:
  """Whether a place is a path here, and neither in a store nor on a hub."""
  return "://" not in where


def check(where: str) -> None:
  """Refuses a place here where there is nothing.

  Raises:
    UserError: there is no such file or folder.
  """
  if is_local(where) and not os.path.exists(where):
    raise UserError(f"{where}: there is no such file or folder")


def is_model(where: str) -> bool:
  """Whether a place is a model itself: also all that is no local folder."""
  if not is_local(where) or not os.path.isdir(where):
    return True
  return any(os.path.exists(os.path.join(where, x)) for x in _MARKERS)


def order(version: str) -> Key:
  """The key to sort versions by, from the oldest to the newest.

  >>> order("v10") > order("v9"), order("2026-11-28") > order("2026-02-03")
  (True, True)
  """
  return tuple(map(int, re.findall(r"\d+", version)))


def found(where: str) -> dict[str, str]:
  """The versions in a folder, the newest first, each with its fingerprint.

  Folders that are not named by a number or a date are left out, and so are
  those without a model.
  """
  try:
    with os.scandir(where) as entries:
      names = [
        entry.name
        for entry in entries
        if _VERSION.fullmatch(entry.name) and entry.is_dir()
      ]
  except OSError:
    return {}
  names.sort(key=lambda name: (order(name), name), reverse=True)
  folders = {name: os.path.join(where, name) for name in names}
  return {
    name: fingerprint(folder)
    for name, folder in folders.items()
    if any(os.path.exists(os.path.join(folder, x)) for x in _MARKERS)
  }


def is_export(folder: str) -> bool:
  """Whether a folder is a complete export: its manifest is written last."""
  return os.path.exists(os.path.join(folder, EXPORTED))


def fingerprint(where: str) -> str:
  """A hash of what is in a folder: of names, sizes and times of change.

  Of an export it is of the manifest, which has the checksums of all files; of
  what is no local folder it is of the name.
  """
  folder, hashed = pathlib.Path(where), hashlib.sha256()
  if not is_local(where) or not folder.is_dir():
    hashed.update(os.fspath(where).encode())
  elif is_export(where):
    hashed.update((folder / EXPORTED).read_bytes())
  else:
    for path in sorted(folder.rglob("*")):
      try:
        stat = path.stat()
      except OSError:
        continue  # Being replaced.
      line = f"{path.relative_to(folder)} {stat.st_size} {stat.st_mtime_ns}"
      hashed.update(line.encode("utf-8", "surrogateescape"))
  return hashed.hexdigest()[:12]
