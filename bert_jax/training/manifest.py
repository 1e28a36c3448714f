"""Which steps of a checkpoint folder are whole.

A manifest in each step's folder vouches for its files: their names, sizes and
SHA-256. It also says whether the step was the best so far, so that a step is
saved and marked as the best at once.
"""

import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

NAME = "manifest.json"
_PARTIAL = NAME + ".tmp"
NONE, ALL_DAMAGED = -1, -2


def write(folder: pathlib.Path, best: bool = False) -> None:
  """Writes the manifest, once every file has reached the disk.

  It is there as a whole or not at all, whenever the process or the machine
  dies.

  Args:
    folder: of a step.
    best: whether the step is the best so far.

  Raises:
    OSError: it cannot be written.
  """
  entries = {}
  for name, path in sorted(_files(folder).items()):
    with path.open("rb") as file:
      os.fsync(file.fileno())
      digest = hashlib.file_digest(file, "sha256").hexdigest()
      entries[name] = {"size": file.tell(), "sha256": digest}
  _replace(folder, {"files": entries, "best": best})


def mark_best(folder: pathlib.Path) -> None:
  """Marks a step that is whole as the best so far.

  Raises:
    OSError: the manifest cannot be written; the old one stays.
  """
  contents = json.loads((folder / NAME).read_bytes())
  _replace(folder, contents | {"best": True})


def _replace(folder: pathlib.Path, contents: Mapping[str, Any]) -> None:
  """Puts a manifest in the place of the one that is there, if any."""
  partial = folder / _PARTIAL
  with partial.open("w") as file:
    json.dump(contents, file, indent=1)
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
    contents = json.loads((folder / NAME).read_bytes())
    listed = contents["files"]
    listed = {name: (e["size"], e["sha256"]) for name, e in listed.items()}
    if contents.keys() - {"files", "best"}:
      return f"{NAME} is not a manifest"
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


def best_steps(folder: pathlib.Path) -> list[int]:
  """Finished steps that were the best when they were saved, oldest first.

  The last of them is the best of all.
  """
  return [step for step in finished_steps(folder) if _is_best(folder, step)]


def newest_step(folder: pathlib.Path) -> int:
  """The newest step that is whole, or else `NONE` or `ALL_DAMAGED`.

  What is wrong with newer ones goes to the log.
  """
  step = _newest_whole(folder, steps(folder))
  return ALL_DAMAGED if step == NONE and finished_steps(folder) else step


def best_step(folder: pathlib.Path) -> int:
  """The best step that is whole, or else `NONE`.

  What is wrong with better ones goes to the log.
  """
  return _newest_whole(folder, best_steps(folder))


def _newest_whole(folder: pathlib.Path, candidates: Sequence[int]) -> int:
  finished = finished_steps(folder)
  for step in reversed(candidates):
    if step in finished:
      wrong = damage(folder / str(step))
    else:
      wrong = "its save was not finished"
    if wrong is None:
      return step
    logging.error("%s is passed over: %s", folder / str(step), wrong)
  return NONE


def _is_best(folder: pathlib.Path, step: int) -> bool:
  path = folder / str(step) / NAME
  try:
    return json.loads(path.read_bytes()).get("best") is True
  except (OSError, ValueError, AttributeError, RecursionError) as error:
    logging.error("%s cannot be read (%.100r): taken for not best", path, error)
    return False


def remove(folder: pathlib.Path) -> None:
  """Removes a step, its manifest first, so that it never half counts."""
  (folder / NAME).unlink(missing_ok=True)
  if folder.exists():
    shutil.rmtree(folder)


def _files(folder: pathlib.Path) -> dict[str, pathlib.Path]:
  """Every file by its relative name, but for those of the manifest itself."""
  paths = {
    path.relative_to(folder).as_posix(): path
    for path in folder.rglob("*")
    if not path.is_dir()
  }
  paths.pop(NAME, None)
  paths.pop(_PARTIAL, None)  # What a kill has left.
  return paths
