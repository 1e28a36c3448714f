"""Manifests: the names, sizes and SHA-256 checksums of a folder's files.

A step of a run counts as saved once its folder has a manifest, which is written
last; so does an exported model. The manifest also marks the best step, so that
saving and marking are one write, and describes an exported model. Folders are
local or remote paths, as `paths.as_path` returns them.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from absl import logging

from bert_jax.settings import UserError
from bert_jax.storage import checksums, paths

NAME = "manifest.json"
_PARTIAL = NAME + ".tmp"
# Of all other entries of a manifest, where it describes a model.
_CHECKSUM = "checksum"


class ManifestError(UserError):
  """A manifest is missing or damaged."""


def write(
  folder: Any, best: bool = False, about: Mapping[str, Any] | None = None
) -> None:
  """Writes a folder's manifest, after every file has reached the disk.

  The write is atomic: if the process or the machine dies, the manifest is
  complete or missing.

  Args:
    folder: with all other files.
    best: of a step, whether it is the best so far.
    about: of an exported model, what else the manifest says, for JSON.

  Raises:
    OSError: it cannot be written.
  """
  entries = {}
  for name, path in sorted(_files(folder).items()):
    size, digest = _measured(path, settled=True)
    entries[name] = {"size": size, "sha256": digest}
  if about is None:
    _replace(folder, {"files": entries, "best": best})
    return
  contents = {**about, "files": entries}
  _replace(folder, {**contents, _CHECKSUM: _checksum(contents)})


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


def read(folder: Any) -> dict[str, Any]:
  """The contents of a folder's manifest.

  Raises:
    ManifestError: it is missing or damaged.
    UserError: the folder is in a store that cannot be reached.
  """
  try:
    contents = json.loads(paths.read_bytes(folder / NAME))
    listed = contents["files"].values()
    is_right = all({*entry} == {"size", "sha256"} for entry in listed)
    if contents.keys() - {"files", "best"}:
      is_right &= contents[_CHECKSUM] == _checksum(contents)
  except UserError:
    raise  # Of the store.
  except (OSError, ValueError, LookupError, TypeError) as error:
    raise ManifestError(f"{NAME} cannot be read ({error!r:.100})") from error
  except (AttributeError, RecursionError):
    raise ManifestError(f"{NAME} is not a manifest") from None
  if not is_right:
    raise ManifestError(f"{NAME} has other contents than were written")
  return contents


def verify(folder: Any) -> str | None:
  """Verifies the files of a step against its manifest.

  Returns:
    None if all files are as they were written, else what is wrong.

  Raises:
    UserError: the folder is in a store that cannot be reached.
  """
  return next(faults(folder), None)


def faults(folder: Any) -> Iterator[str]:
  """What is wrong with the files of a folder, by its manifest: a line each.

  Raises:
    UserError: the folder is in a store that cannot be reached.
  """
  try:
    listed = read(folder)["files"]
  except ManifestError as error:
    yield str(error)
    return
  if not listed:
    yield f"{NAME} is empty"
  found = _files(folder)
  yield from (f"{x} is missing" for x in sorted(listed.keys() - found.keys()))
  for name in sorted(found.keys() - listed.keys()):
    yield f"{name} is not in its {NAME}"
  for name in sorted(listed.keys() & found.keys()):
    size, digest = listed[name]["size"], listed[name]["sha256"]
    try:
      got, found_digest = _measured(found[name])
    except OSError as error:
      yield f"{name} cannot be read ({error.strerror})"
      continue
    if got != size:
      yield f"{name} has {got} bytes in place of {size}"
    elif found_digest != digest:
      yield f"{name} has other contents than were written"


def _checksum(contents: Mapping[str, Any]) -> str:
  """The SHA-256 of a manifest's contents, but for its own entry."""
  rest = {name: x for name, x in contents.items() if name != _CHECKSUM}
  text = json.dumps(rest, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


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
