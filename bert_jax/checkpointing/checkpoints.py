"""Checkpoints: arrays written by Orbax, verified by a manifest of our own.

    FOLDER/1200/state/         the TrainState, as Orbax lays it out
    FOLDER/1200/contents.json  metadata, and the shape and dtype of each array
    FOLDER/1200/manifest.json  size and SHA-256 of every other file

Orbax restores a tensor file with a flipped bit without an error. Therefore a
step counts once its manifest exists, which is written last, and is used only
if every file matches the manifest.
"""

import concurrent.futures
import contextlib
import json
import logging as python_logging
import os
import re
from collections.abc import Mapping
from typing import Any, Self

import orbax.checkpoint as ocp
from absl import logging

from bert_jax import trees
from bert_jax.checkpointing import manifest, s3
from bert_jax.cluster import processes
from bert_jax.settings import UserError
from bert_jax.storage import object_stores, paths
from bert_jax.types import TrainState

STATE = "state"
CONTENTS = "contents.json"


def _not_of_orbax(record: python_logging.LogRecord) -> bool:
  origin = f"{record.pathname} {record.getMessage()}"
  return os.path.dirname(ocp.__file__) not in origin


# Errors of Orbax reach the caller as exceptions; asyncio would also print the
# traceback of each of its failed tasks.
for _name in ("absl", "asyncio"):
  python_logging.getLogger(_name).addFilter(_not_of_orbax)


class Checkpoints:
  """The checkpoints of one run; a context manager.

  Saving continues in the background. A failed save raises at the next `save`,
  `wait` or `close`, and leaves earlier steps unchanged.
  """

  def __init__(self, folder: paths.Path, keep: int = 3):
    """Opens the folder; the first save creates it.

    Args:
      folder: local or in an object store, used by one run at a time.
      keep: the number of newest steps to keep, besides the best one.

    Raises:
      UserError: `keep` is less than 1, or the path is not a folder.
    """
    if keep < 1:
      raise UserError(
        f"config.checkpoint.keep: expected at least 1, got {keep}"
      )
    self._folder = absolute(folder)
    self._keep = keep
    # The manifest marks a finished step, so a store need not rename files.
    mode = ocp.options.AtomicityMode
    self._checkpointer = ocp.AsyncCheckpointer(
      ocp.StandardCheckpointHandler(),
      atomicity_options=ocp.options.AtomicityOptions(
        mode.COMMIT_FILE if paths.is_remote(folder) else mode.AUTO
      ),
    )
    self._executor = concurrent.futures.ThreadPoolExecutor(1)
    self._pending: concurrent.futures.Future[None] | None = None

  def __enter__(self) -> Self:
    return self

  def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
    try:
      self.close()
    except UserError as failure:
      if error is None:
        raise
      logging.error("%s", failure)  # The first error is the one to raise.

  def steps(self) -> list[int]:
    """The steps whose saves are finished, in ascending order."""
    return manifest.finished_steps(self._folder)

  def best_step(self) -> int | None:
    """The step that was last saved as the best; None without one."""
    return max(manifest.best_steps(self._folder), default=None)

  def save(
    self, state: TrainState, metadata: Mapping[str, Any], best: bool = False
  ) -> None:
    """Starts to save a state as it is now; all hosts call it.

    If the step is saved already and verifies, only its mark as the best is
    updated. The caller may donate the state's buffers at once: JAX does not
    reuse a buffer that is being read.

    Args:
      state: to be saved.
      metadata: JSON values that are saved with the state.
      best: whether this is the best step so far, for `restore_params`.

    Raises:
      UserError: this or the previous save could not be written.
    """
    self.wait()
    step = int(state.step)
    saved = json.dumps({"metadata": metadata, "arrays": kinds(state)})
    target = self._folder / str(step)
    if processes.on_first(lambda: manifest.verify(target) is None):
      if best and processes.is_first():
        try:
          manifest.mark_best(target)
        except OSError as error:
          raise UserError(
            f"{target} could not be marked as the best: {error.strerror}"
          ) from error
      return
    arrays = ocp.args.StandardSave(state)
    with self._writing(step):
      if processes.is_first():
        manifest.remove(target)
        if not paths.is_remote(target):
          target.mkdir(parents=True)
      self._checkpointer.save(target / STATE, args=arrays)
    self._pending = self._executor.submit(self._finish, step, saved, best)

  def restore(
    self, target: TrainState
  ) -> tuple[TrainState, dict[str, Any]] | None:
    """Reads the newest step that verifies.

    Args:
      target: shape structs of the state, with the shardings to restore to.

    Returns:
      The state and its metadata; None if nothing was ever saved.

    Raises:
      UserError: there are steps but none verifies, or the newest one that
        does has other shapes than the target.
    """
    self.wait()
    step = processes.on_first(lambda: manifest.newest_step(self._folder))
    if step is None:
      return None
    folder = self._folder / str(step)
    metadata = check(folder, target)
    with object_stores.explain_errors(folder):
      state = self._checkpointer.restore(
        folder / STATE, args=ocp.args.StandardRestore(target)
      )
    return state, metadata

  def wait(self) -> None:
    """Waits until the last save is on the disk; UserError if it failed."""
    pending, self._pending = self._pending, None
    if pending:
      pending.result()

  def close(self) -> None:
    """As `wait`, and ends the background work."""
    try:
      self.wait()
    finally:
      self._executor.shutdown()
      self._checkpointer.close()

  def _finish(self, step: int, saved: str, best: bool) -> None:
    """After Orbax is done: writes the manifest and removes old steps."""
    folder = self._folder / str(step)
    with self._writing(step):
      self._checkpointer.wait_until_finished()
      if processes.is_first():
        paths.write_bytes(folder / CONTENTS, saved.encode())
        manifest.write(folder, best)
    if processes.is_first():
      self._prune(step)

  def _prune(self, step: int) -> None:
    """Removes old and unfinished steps.

    Of the steps marked as the best, only the last is kept for its mark. Steps
    after this one were skipped by a restore: they are replaced when the run
    gets there again, and do not count among the newest.
    """
    kept = [old for old in self.steps() if old <= step][-self._keep :]
    best = manifest.best_steps(self._folder)
    kept += [old for old in best if old <= step][-1:]
    for old in manifest.steps(self._folder):
      folder = self._folder / str(old)
      names = paths.list_names(folder, None)
      # Complete or not; a folder without arrays is not ours.
      ours = any(name.startswith(STATE) for name in names)
      if ours and old < step and old not in kept:
        try:
          manifest.remove(folder)
        except (OSError, UserError) as error:
          logging.error("%s cannot be removed: %s", folder, error)

  @contextlib.contextmanager
  def _writing(self, step: int):
    """Removes a step whose save failed, and raises the reason."""
    try:
      yield
    except Exception as error:
      if processes.is_first():
        with contextlib.suppress(OSError, UserError):
          manifest.remove(self._folder / str(step))
      if message := processes.lost(error):
        raise processes.LostError(message) from error
      raise UserError(
        f"the checkpoint of step {step} could not be written to"
        f" {self._folder}: {_reason(error)}"
      ) from error


def absolute(folder: paths.Path) -> Any:
  """The absolute path of a folder for checkpoints, local or remote.

  Raises:
    UserError: it is a file, or its kind of store is not supported.
  """
  if paths.is_remote(folder):
    if os.fspath(folder).startswith("s3:"):
      s3.patch_orbax()
    return paths.as_path(folder)
  path = paths.as_path(folder).absolute()
  if path.exists() and not path.is_dir():
    raise UserError(f"{path}: expected a folder for checkpoints, found a file")
  return path


def metadata(folder: Any) -> dict[str, Any]:
  """The metadata that a step was saved with, from its folder."""
  return json.loads(paths.read_bytes(folder / CONTENTS))["metadata"]


def check(folder: Any, target: Any, partly: bool = False) -> dict[str, Any]:
  """Checks the arrays of a step, and returns its metadata.

  Args:
    folder: that of the step.
    target: the expected tree of arrays or shape structs.
    partly: whether the step may have other arrays too.

  Raises:
    UserError: an array is missing or has another shape or dtype.
  """
  contents = json.loads(paths.read_bytes(folder / CONTENTS))
  saved, expected = contents["arrays"], kinds(target)
  names = expected.keys() if partly else saved.keys() | expected.keys()
  for name in sorted(names, key=lambda name: (name[:7] != "params/", name)):
    if saved.get(name) != expected.get(name):
      raise UserError(
        f"{folder}: {name} is saved as {saved.get(name, 'nothing')}, but the"
        f" config makes it {expected.get(name, 'nothing')}"
      )
  return contents["metadata"]


def kinds(tree: Any) -> dict[str, str]:
  """The dtype and shape of every leaf by its path: `float32[30522,768]`."""
  return {
    name: f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    for name, leaf in trees.flatten(tree).items()
  }


def _reason(error: Exception) -> str:
  """The operating system's message, or else the end of the error's own."""
  if code := re.search(r"os_error_code='(\d+)'", str(error)):
    return os.strerror(int(code[1]))
  message, has_spec, _ = str(error).partition(" [tensorstore_spec=")
  return " ".join((message if has_spec else repr(error)).split())[-300:]
