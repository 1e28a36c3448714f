"""Manifests: the names, sizes and SHA-256 checksums of a checkpoint's files.

A step counts as saved once its folder has a manifest, which is written last.
The manifest also marks the best step, so that saving and marking are one
write. Folders are local or remote paths, as `paths.as_path` returns them.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from absl import logging

from bert_jax.settings import UserError
from bert_jax.storage import checksums, paths

NAME = "manifest.json"
_PARTIAL = NAME + ".tmp"


def write(folder: Any, best: bool = False) -> None:
  """Writes the manifest of a step, after every file has reached the disk.

  The write is atomic: if the process or the machine dies, the manifest is
  complete or missing.

  Raises:
    OSError: it cannot be written.
  """
  entries = {}
  for name, path in sorted(_files(folder).items()):
    size, digest = _measured(path, settled=True)
    entries[name] = {"size": size, "sha256": digest}
  _replace(folder, {"files": entries, "best": best})


def mark_best(folder: Any) -> None:
  """Marks a verified step as the best so far.

  Raises:
    OSError: the manifest cannot be written; the old one stays.
  """
  contents = json.loads(paths.read_bytes(folder / NAME))
  _replace(folder, contents | {"best": True})


def _replace(folder: Any, contents: Mapping[str, Any]) -> None:
  """Writes a manifest, in place of an existing one."""
  if paths.is_remote(folder):
    # The write of an object is atomic.
    paths.write_bytes(folder / NAME, json.dumps(contents, indent=1).encode())
    return
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


def verify(folder: Any) -> str | None:
  """Verifies the files of a step against its manifest.

  Returns:
    None if all files are as they were written, else what is wrong.

  Raises:
    UserError: the folder is in a store that cannot be reached.
  """
  try:
    data = paths.read_bytes(folder / NAME)
  except OSError as error:
    return f"{NAME} cannot be read ({error!r:.100})"
  try:
    contents = json.loads(data)
    listed = {
      name: (e["size"], e["sha256"]) for name, e in contents["files"].items()
    }
    if contents.keys() - {"files", "best"}:
      return f"{NAME} is not a manifest"
  except (ValueError, LookupError, TypeError) as error:
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
      got, found_digest = _measured(found[name])
      if got != size:
        return f"{name} has {got} bytes in place of {size}"
      if found_digest != digest:
        return f"{name} has other contents than were written"
    except OSError as error:
      return f"{name} cannot be read ({error.strerror})"
  return None


def _measured(path: Any, settled: bool = False) -> tuple[int, str]:
  """Size and SHA-256 of a file; with `settled` it is synced to disk first."""
  with paths.open_binary(path) as file:
    if settled and not paths.is_remote(path):
      os.fsync(file.fileno())
    return checksums.size_and_sha256(file)


def steps(folder: Any) -> list[int]:
  """The steps with a folder, finished or not, in ascending order."""
  names = paths.list_names(folder, "directory")
  return sorted(
    int(name) for name in names if name.isdecimal() and str(int(name)) == name
  )


def finished_steps(folder: Any) -> list[int]:
  """The steps with a manifest; a save without one was interrupted."""
  there = paths.exists if paths.is_remote(folder) else os.path.lexists
  return [step for step in steps(folder) if there(folder / str(step) / NAME)]


def best_steps(folder: Any) -> list[int]:
  """The finished steps that were the best when saved; the last is the best."""
  return [step for step in finished_steps(folder) if _is_best(folder, step)]


def newest_step(folder: Any) -> int | None:
  """The newest step that verifies; None if nothing was saved yet.

  What is wrong with newer steps is logged.

  Raises:
    UserError: there are steps, but none verifies.
  """
  step = _newest_verified(folder, steps(folder))
  if step is None and finished_steps(folder):
    raise UserError(
      f"{folder}: all checkpoints are damaged (see the log); to start over,"
      " move the folder away"
    )
  return step


def best_step(folder: Any) -> int | None:
  """The best step that verifies, if any.

  What is wrong with better steps is logged.
  """
  return _newest_verified(folder, best_steps(folder))


def _newest_verified(folder: Any, candidates: Sequence[int]) -> int | None:
  finished = finished_steps(folder)
  for step in reversed(candidates):
    if step in finished:
      wrong = verify(folder / str(step))
    else:
      wrong = "its save was not finished"
    if wrong is None:
      return step
    logging.error("%s is skipped: %s", folder / str(step), wrong)
  return None


def _is_best(folder: Any, step: int) -> bool:
  path = folder / str(step) / NAME
  try:
    return json.loads(paths.read_bytes(path)).get("best") is True
  except UserError:
    raise
  except (OSError, ValueError, AttributeError, RecursionError) as error:
    logging.error(
      "%s cannot be read (%.100r); it is not used as the best", path, error
    )
    return False


def remove(folder: Any) -> None:
  """Removes a step, its manifest first, so that no part of it counts."""
  if paths.is_remote(folder):
    paths.remove(folder / NAME)
    paths.remove(folder)
    return
  (folder / NAME).unlink(missing_ok=True)
  if folder.exists():
    shutil.rmtree(folder)


def _files(folder: Any) -> dict[str, Any]:
  """All files by relative name, except the manifest."""
  found = paths.list_files(folder)
  found.pop(NAME, None)
  found.pop(_PARTIAL, None)  # Left by a killed process.
  return found
