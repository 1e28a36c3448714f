"""Which steps of a checkpoint folder are whole.

A manifest in each step's folder vouches for its files: their names, sizes and
SHA-256.
"""

import hashlib
import json
import os
import pathlib
import shutil

from absl import logging

NAME = "manifest.json"
NONE, ALL_DAMAGED = -1, -2


def write(folder: pathlib.Path) -> None:
  """Writes the manifest, once every file has reached the disk.

  It is there as a whole or not at all, whenever the process or the machine
  dies.

  Raises:
    OSError: it cannot be written.
  """
  entries = {}
  for name, path in sorted(_files(folder).items()):
    with path.open("rb") as file:
      os.fsync(file.fileno())
      digest = hashlib.file_digest(file, "sha256").hexdigest()
      entries[name] = {"size": file.tell(), "sha256": digest}
  partial = folder / (NAME + ".tmp")
  with partial.open("w") as file:
    json.dump({"files": entries}, file, indent=1)
    file.flush()
    os.fsync(file.fileno())
  partial.replace(folder / NAME)
  descriptor = os.open(folder, os.O_RDONLY)
  try:
    os.fsync(descriptor)
  finally:
    os.close(descriptor)


def damage(folder: pathlib.Path) -> str | None:
  """What is wrong with the folder, or None if it is as it was written."""
  try:
    listed = json.loads((folder / NAME).read_bytes())["files"]
    listed = {name: (e["size"], e["sha256"]) for name, e in listed.items()}
  except (OSError, ValueError, LookupError, TypeError) as error:
    return f"{NAME} cannot be read ({error!r:.100})"
  except (AttributeError, RecursionError):
    return f"{NAME} is not a manifest"
  found = _files(folder)
  if not listed:
    return f"{NAME} is empty"
  if missing := sorted(listed.keys() - found.keys()):
    return f"{missing[0]} is missing"
  if extra := sorted(found.keys() - listed.keys()):
    return f"{extra[0]} is not in its {NAME}"
  for name, (size, digest) in listed.items():
    try:
      with found[name].open("rb") as file:
        if (got := os.fstat(file.fileno()).st_size) != size:
          return f"{name} has {got} bytes in place of {size}"
        if hashlib.file_digest(file, "sha256").hexdigest() != digest:
          return f"{name} has other contents than were written"
    except OSError as error:
      return f"{name} cannot be read ({error.strerror})"
  return None


def steps(folder: pathlib.Path) -> list[int]:
  """Steps by their folders' names, finished or not, the oldest first."""
  if not folder.is_dir():
    return []
  names = (path.name for path in folder.iterdir() if path.is_dir())
  return sorted(
    int(name) for name in names if name.isdecimal() and str(int(name)) == name
  )


def finished_steps(folder: pathlib.Path) -> list[int]:
  """Steps with a manifest; without one a save was cut off."""
  return [
    step for step in steps(folder) if os.path.lexists(folder / str(step) / NAME)
  ]


def newest_step(folder: pathlib.Path) -> int:
  """The newest step that is whole, or else `NONE` or `ALL_DAMAGED`.

  What is wrong with newer ones goes to the log.
  """
  finished = finished_steps(folder)
  for step in reversed(steps(folder)):
    if step in finished:
      wrong = damage(folder / str(step))
    else:
      wrong = "its save was not finished"
    if wrong is None:
      return step
    logging.error("%s is passed over: %s", folder / str(step), wrong)
  return ALL_DAMAGED if finished else NONE


def remove(folder: pathlib.Path) -> None:
  """Removes a step, its manifest first, so that it never half counts."""
  (folder / NAME).unlink(missing_ok=True)
  if folder.exists():
    shutil.rmtree(folder)


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Every file by its relative name, but for the manifest itself."""
  paths = {
    path.relative_to(folder).as_posix(): path
    for path in folder.rglob("*")
    if not path.is_dir()
  }
  paths.pop(NAME, None)
  return paths
