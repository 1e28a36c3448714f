"""Checkpoints: Orbax writes the arrays, a manifest of our own vouches for them.

    FOLDER/1200/state/         the TrainState, as Orbax lays it out
    FOLDER/1200/contents.json  metadata, and the shape and dtype of each array
    FOLDER/1200/manifest.json  size and SHA-256 of every other file

Orbax itself restores a tensor file with a flipped bit without a word. So a
step counts once its manifest is there, which is written last, and is used
only if every file is what the manifest says.
"""

import concurrent.futures
import contextlib
import json
import logging as python_logging
import os
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any, Self

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from bert_jax import trees
from bert_jax.settings import UserError
from bert_jax.training import manifest
from bert_jax.training.state import TrainState
from bert_jax.types import Parameters

_STATE = "state"
_CONTENTS = "contents.json"


def _not_of_orbax(record: python_logging.LogRecord) -> bool:
  origin = f"{record.pathname} {record.getMessage()}"
  return os.path.dirname(ocp.__file__) not in origin


# What matters of Orbax's own log reaches the caller as an exception; asyncio
# would print the traceback of each of its tasks that failed.
for _name in ("absl", "asyncio"):
  python_logging.getLogger(_name).addFilter(_not_of_orbax)


class Checkpoints:
  """The checkpoints of one run; a context manager.

  Saving goes on in the background. A save that fails raises at the next
  `save`, `wait` or `close`, and leaves the steps saved before as they were.
  """

  def __init__(self, folder: str | os.PathLike, keep: int = 3):
    """Opens the folder, which the first save makes.

    Args:
      folder: of a local or shared file system, for one run at a time.
      keep: how many steps to keep, the newest ones.

    Raises:
      UserError: `keep` is less than 1, or this is no folder.
    """
    if keep < 1:
      raise UserError(
        f"config.checkpoint.keep: expected at least 1, got {keep}"
      )
    self._folder = _absolute(folder)
    self._keep = keep
    self._checkpointer = ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler())
    self._executor = concurrent.futures.ThreadPoolExecutor(1)
    self._pending: concurrent.futures.Future[None] | None = None

  def __enter__(self) -> Self:
    return self

  def __exit__(
    self, kind: Any, error: BaseException | None, trace: Any
  ) -> None:
    try:
      self.close()
    except UserError as failure:
      if error is None:
        raise
      logging.error("%s", failure)  # What ended the run must stay in sight.

  def steps(self) -> list[int]:
    """The steps whose saves were finished, the oldest first."""
    return manifest.finished_steps(self._folder)

  def save(self, state: TrainState, metadata: Mapping[str, Any]) -> None:
    """Begins to save a state; what is saved is the state as it is now.

    A step that is saved already and verifies is left as it is. The caller may
    donate the state's buffers at once: jax reuses none that is being read.

    Args:
      state: all hosts give theirs.
      metadata: goes with the state, as JSON.

    Raises:
      UserError: this save or the one before could not be written.
    """
    self.wait()
    step = int(state.step)
    contents = json.dumps({"metadata": metadata, "arrays": _kinds(state)})
    target = self._folder / str(step)
    if _on_first_host(lambda: int(manifest.damage(target) is None)):
      return
    arrays = ocp.args.StandardSave(state)
    with self._writing(step):
      if jax.process_index() == 0:
        manifest.remove(target)
        target.mkdir(parents=True)
      self._checkpointer.save(target / _STATE, args=arrays)
    self._pending = self._executor.submit(self._finish, step, contents)

  def restore(
    self, target: TrainState
  ) -> tuple[TrainState, dict[str, Any]] | None:
    """Reads the newest step that verifies.

    Args:
      target: the state's shape structs, with the shardings to restore to.

    Returns:
      The state and its metadata; None if nothing was ever saved.

    Raises:
      UserError: there are steps but none verifies, or the newest that does
        is not of the target's shapes.
    """
    self.wait()
    step = _newest(self._folder)
    if step is None:
      return None
    folder = self._folder / str(step)
    metadata = _check_contents(folder, target)
    state = self._checkpointer.restore(
      folder / _STATE, args=ocp.args.StandardRestore(target)
    )
    return state, metadata

  def wait(self) -> None:
    """Waits until the last save is on the disk.

    Raises:
      UserError: it could not be written.
    """
    pending, self._pending = self._pending, None
    if pending:
      pending.result()

  def close(self) -> None:
    """Waits for the last save and ends the background work.

    Raises:
      UserError: the last save could not be written.
    """
    try:
      self.wait()
    finally:
      self._executor.shutdown()
      self._checkpointer.close()

  def _finish(self, step: int, contents: str) -> None:
    """Once Orbax is done: vouches for the step and lets old steps go."""
    folder = self._folder / str(step)
    with self._writing(step):
      self._checkpointer.wait_until_finished()
      if jax.process_index() == 0:
        (folder / _CONTENTS).write_text(contents)
        manifest.write(folder)
    if jax.process_index() == 0:
      self._prune(step)

  def _prune(self, step: int) -> None:
    """Removes the steps that are too old to keep, and unfinished ones.

    Later steps are those that a restore passed over; they are replaced when
    the run gets there again, and must not push out good ones.
    """
    kept = [old for old in self.steps() if old <= step][-self._keep :]
    for old in manifest.steps(self._folder):
      folder = self._folder / str(old)
      ours = any(folder.glob(f"{_STATE}*"))
      if ours and old < step and old not in kept:
        try:
          manifest.remove(folder)
        except OSError as error:
          logging.error("%s cannot be removed: %s", folder, error.strerror)

  @contextlib.contextmanager
  def _writing(self, step: int):
    """Clears away what it can of a failed step, and says why it failed."""
    try:
      yield
    except Exception as error:
      if jax.process_index() == 0:
        with contextlib.suppress(OSError):
          manifest.remove(self._folder / str(step))
      raise UserError(
        f"the checkpoint of step {step} could not be written to"
        f" {self._folder}: {_reason(error)}"
      ) from error


def restore_params(folder: str | os.PathLike, target: Parameters) -> Parameters:
  """Reads only the parameters of the newest step that verifies.

  Args:
    folder: of a run's checkpoints, on whatever devices it ran.
    target: shape structs of the wanted parameters, all or some of those that
      were saved; the ones without a sharding go to the first local device.

  Raises:
    UserError: there is no step that verifies, or it is not of the target's
      shapes.
  """
  folder = _absolute(folder)
  step = _newest(folder)
  if step is None:
    raise UserError(f"{folder}: no checkpoint")
  folder = folder / str(step)
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  item = {
    "params": jax.tree.map(
      lambda x: x if x.sharding else x.update(sharding=here), dict(target)
    )
  }
  _check_contents(folder, item, partly=True)
  with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
    args = ocp.args.PyTreeRestore(
      item=item,
      restore_args=ocp.checkpoint_utils.construct_restore_args(item),
      partial_restore=True,
    )
    restored = checkpointer.restore(folder / _STATE, args=args)
  return restored["params"]


def _reason(error: Exception) -> str:
  """The system's word for what went wrong, or else the error's last ones."""
  if code := re.search(r"os_error_code='(\d+)'", str(error)):
    return os.strerror(int(code[1]))
  return " ".join(repr(error).split())[-200:]


def _absolute(folder: str | os.PathLike) -> pathlib.Path:
  if "://" in os.fspath(folder):
    raise UserError(f"{folder}: expected a folder; mount the bucket as one")
  path = pathlib.Path(folder).absolute()
  if path.exists() and not path.is_dir():
    raise UserError(f"{path}: expected a folder for checkpoints, found a file")
  return path


def _newest(folder: pathlib.Path) -> int | None:
  """The newest step that verifies."""
  step = _on_first_host(lambda: manifest.newest_step(folder))
  if step == manifest.ALL_DAMAGED:
    raise UserError(
      f"{folder}: there are checkpoints, but all of them are damaged (see the"
      " log); to begin anew, move the folder away"
    )
  return None if step == manifest.NONE else step


def _on_first_host(function: Callable[[], int]) -> int:
  """The first host's result, so that all hosts go the same way."""
  if jax.process_count() == 1:
    return function()
  mine = function() if jax.process_index() == 0 else 0
  return int(multihost_utils.broadcast_one_to_all(np.int32(mine)))


def _check_contents(
  folder: pathlib.Path, target: Any, partly: bool = False
) -> dict[str, Any]:
  """The metadata of a step whose arrays are, or contain, the target's."""
  contents = json.loads((folder / _CONTENTS).read_text())
  saved, expected = contents["arrays"], _kinds(target)
  names = expected.keys() if partly else saved.keys() | expected.keys()
  for name in sorted(names, key=lambda name: (name[:7] != "params/", name)):
    if saved.get(name) != expected.get(name):
      raise UserError(
        f"{folder}: {name} is saved as {saved.get(name, 'nothing')}, but the"
        f" config makes it {expected.get(name, 'nothing')}"
      )
  return contents["metadata"]


def _kinds(tree: Any) -> dict[str, str]:
  """Dtype and shape of every leaf by its path: `float32[30522,768]`."""
  return {
    name: f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    for name, leaf in trees.flatten(tree).items()
  }
