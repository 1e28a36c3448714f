"""The parameters of the model in a run's checkpoints.

They are the averages that the optimizer keeps (EMA) where there are any.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import orbax.checkpoint as ocp

from bert_jax.checkpointing import checkpoints, manifest
from bert_jax.cluster import processes
from bert_jax.settings import UserError
from bert_jax.storage import object_stores, paths
from bert_jax.types import Parameters


def restore_params(folder: paths.Path, target: Parameters) -> Parameters:
  """Reads the parameters of the best step, or else of the newest.

  Args:
    folder: the checkpoints of a run, on any devices.
    target: shape structs of all or some of the saved parameters; those without
      a sharding are placed on the first local device.

  Raises:
    UserError: no step verifies, or the shapes differ from the target's.
  """
  return restore_step(best_folder(folder), target)


def restore_step(folder: Any, target: Parameters) -> Parameters:
  """`restore_params` from the folder of a step that is verified already."""
  here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  item: Any = jax.tree.map(
    lambda x: x if x.sharding else x.update(sharding=here), dict(target)
  )
  keys = _prefix(_arrays(folder)).split("/")[:-1]
  for key in reversed(keys):
    item = {key: item}
  checkpoints.check(folder, item, partly=True)
  with (
    object_stores.explain_errors(folder),
    ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer,
  ):
    args = ocp.args.PyTreeRestore(
      item=item,
      restore_args=ocp.checkpoint_utils.construct_restore_args(item),
      partial_restore=True,
    )
    restored = checkpointer.restore(folder / checkpoints.STATE, args=args)
  for key in keys:
    restored = restored[key]
  return restored


def saved_paths(folder: Any) -> set[str]:
  """The paths of the parameters in the folder of a step."""
  arrays = _arrays(folder)
  prefix = _prefix(arrays)
  return {
    path.removeprefix(prefix) for path in arrays if path.startswith(prefix)
  }


def _arrays(folder: Any) -> Mapping[str, str]:
  """The dtypes and shapes of a step by path."""
  return json.loads(paths.read_bytes(folder / checkpoints.CONTENTS))["arrays"]


def _prefix(arrays: Iterable[str]) -> str:
  """The path of the parameters within the state, or of their averages."""
  averages = (
    re.match(r"optimizer_state/(.+?/)?ema_params/", x) for x in arrays
  )
  found = next(filter(None, averages), None)
  return found[0] if found else "params/"


def best_folder(folder: paths.Path) -> Any:
  """The folder of the best step, or else of the newest; its files are hashed.

  If the best step does not verify, the best step before it is used, and if
  there is none, the newest step that verifies. Skipped steps are logged.

  Raises:
    UserError: no step verifies.
  """
  folder = checkpoints.absolute(folder)

  def found() -> int | None:
    best = manifest.best_step(folder)
    return manifest.newest_step(folder) if best is None else best

  step = processes.on_first(found)
  if step is None:
    raise UserError(f"{folder}: no checkpoint")
  return folder / str(step)


def step_folder(folder: paths.Path, step: int) -> Any:
  """The folder of a step; its files are hashed.

  Raises:
    UserError: there is no such step, or it does not verify.
  """
  folder = checkpoints.absolute(folder)
  known = manifest.finished_steps(folder)
  if step not in known:
    listed = ", ".join(map(str, known)) or "none"
    raise UserError(f"{folder}: no checkpoint of step {step}; there: {listed}")
  if fault := manifest.verify(folder / str(step)):
    raise UserError(f"{folder / str(step)}: damaged: {fault}")
  return folder / str(step)
