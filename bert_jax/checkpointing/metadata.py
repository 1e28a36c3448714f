"""The metadata of a checkpoint: names, shapes and dtypes of its arrays."""

import json
import os
from typing import Any

from bert_jax import trees
from bert_jax.checkpointing import s3
from bert_jax.settings import UserError
from bert_jax.storage import paths

STATE = "state"
FILE = "contents.json"


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


def check(folder: Any, target: Any, partly: bool = False) -> dict[str, Any]:
  """Checks the arrays of a step, and returns its metadata.

  Args:
    folder: that of the step.
    target: the expected tree of arrays or shape structs.
    partly: whether the step may have other arrays too.

  Raises:
    UserError: an array is missing or has another shape or dtype.
  """
  contents = json.loads(paths.read_bytes(folder / FILE))
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
