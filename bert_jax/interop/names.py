"""Our parameters and the tensors of a checkpoint, by one table both ways."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from bert_jax import trees
from bert_jax.interop.tensors import Tensors
from bert_jax.settings import UserError
from bert_jax.types import Parameters

_LAYER = re.compile(r"layer_(\d+)")
_SHOWN = 12


class Tensor(NamedTuple):
  """Where a parameter is in a checkpoint.

  Attributes:
    name: the tensor's.
    transposed: whether its two axes are the other way round there.
    part: where a tensor stacks several parameters by rows, which one.
    parts: how many it stacks.
  """

  name: str
  transposed: bool = False
  part: int = 0
  parts: int = 1


Rows = Mapping[str, str | Tensor]
"""Our modules, or single parameters, and the names that they bear elsewhere.

`{n}` is the number of a layer. A module's row stands for all its parameters,
whose own names follow by `Leaves`; a parameter's row is its `Tensor`.
"""

Leaves = Callable[[str, str], Tensor]
"""Module and parameter, such as `kernel`, to the tensor that it is."""


class Table(NamedTuple):
  """All that names one model's tensors.

  Attributes:
    rows: of the model.
    leaves: the format's way with parameters.
    copies: tensors that repeat another one, which is checked: what stands in
      for it if it is not there.
    ignored: patterns of tensors that are no parameters of any of our models.
    others: rows of heads that the model lacks; their tensors are passed over.
  """

  rows: Rows
  leaves: Leaves
  copies: Mapping[str, str]
  ignored: Sequence[str]
  others: Sequence[Rows]

  def locate(self, path: str) -> Tensor | None:
    """Where the parameter of this path is; None if no row is about it."""
    return _locate(self.rows, self.leaves, path)

  def is_in(self, tensors: Tensors, path: str) -> bool:
    """Whether the parameter of this path is in a checkpoint."""
    tensor = self.locate(path)
    return tensor is not None and tensor.name in tensors.shapes


def torch_leaves(module: str, leaf: str) -> Tensor:
  """PyTorch's names: a kernel is a `weight` with its axes exchanged."""
  name = "bias" if leaf == "bias" else "weight"
  return Tensor(f"{module}.{name}", transposed=leaf == "kernel")


def tensorflow_leaves(module: str, leaf: str) -> Tensor:
  """TensorFlow 1's names, in which an embedding is its module's own."""
  if leaf == "embedding":
    return Tensor(module)
  is_norm = module.endswith("LayerNorm")
  norm_names = {"scale": "gamma", "bias": "beta"}
  return Tensor(f"{module}/{norm_names[leaf] if is_norm else leaf}")


def _locate(rows: Rows, leaves: Leaves, path: str) -> Tensor | None:
  numbers = _LAYER.findall(path)
  key = _LAYER.sub("layer_{n}", path)
  module, leaf = key.rsplit("/", 1)
  row = rows.get(key, rows.get(module))
  if row is None:
    return None
  if isinstance(row, str):
    tensor = leaves(row, leaf)
  elif key in rows:
    tensor = row
  else:
    named = leaves(row.name, leaf)
    tensor = row._replace(name=named.name, transposed=named.transposed)
  if numbers:
    tensor = tensor._replace(name=tensor.name.replace("{n}", numbers[0]))
  return tensor


class Merged(NamedTuple):
  """Parameters read from a checkpoint.

  Attributes:
    params: those that are there.
    fresh: the heads that are not, by the first names of their paths.
  """

  params: Parameters
  fresh: tuple[str, ...]


def read_params(
  tensors: Tensors,
  wanted: Parameters,
  table: Table,
  where: str,
  place: Callable[[str, np.ndarray], Any] | None = None,
) -> Merged:
  """Reads a model's parameters, one tensor at a time, the largest first.

  Args:
    tensors: the checkpoint; other floating-point types become the wanted one.
    wanted: shape structs of the parameters.
    table: the names that they bear.
    where: the checkpoint, for messages.
    place: puts the parameter of a path where it is to stay, by default on the
      first local device.

  Raises:
    UserError: tensors are missing that are not all of a head's, or have other
      shapes, or are known to no row of the table.
  """
  place = place or (lambda _, array: jax.device_put(array))
  shapes = trees.flatten(wanted)
  nowhere = Tensor("(no name)")
  located = {path: table.locate(path) or nowhere for path in shapes}
  stand_ins = {original: copy for copy, original in table.copies.items()}
  for path, tensor in located.items():
    copy = stand_ins.get(tensor.name)
    if tensor.name not in tensors.shapes and copy in tensors.shapes:
      located[path] = tensor._replace(name=copy)
  fresh = _check(tensors, shapes, located, table, where)
  _check_copies(tensors, table, where)
  flat, last = {}, (None, None)
  for path in sorted(
    (path for path in shapes if path.split("/")[0] not in fresh),
    key=lambda path: (-_bytes(tensors, located[path]), located[path]),
  ):
    tensor = located[path]
    if last[0] != tensor.name:
      last = (None, None)  # Lets go of the one before.
      last = (tensor.name, tensors.read(tensor.name))
    flat[path] = place(path, _ours(last[1], tensor, shapes[path].dtype))
    if tensor.parts == 1:
      last = (None, None)
  return Merged(trees.unflatten(flat), fresh)


def _bytes(tensors: Tensors, tensor: Tensor) -> int:
  info = tensors.shapes[tensor.name]
  return int(np.prod(info.shape)) * info.dtype.itemsize


def _ours(array: np.ndarray, tensor: Tensor, dtype: Any) -> np.ndarray:
  if tensor.parts > 1:
    array = np.split(array, tensor.parts)[tensor.part]
  if tensor.transposed:
    array = array.T
  # Views: a copy would only be copied again, on its way to the device.
  return array.astype(dtype, copy=False)


def _check(
  tensors: Tensors,
  shapes: Mapping[str, Any],
  located: Mapping[str, Tensor],
  table: Table,
  where: str,
) -> tuple[str, ...]:
  """Compares names and shapes; returns the heads that are not there."""
  missing, misshaped = [], []
  for path, tensor in located.items():
    if tensor.name not in tensors.shapes:
      missing.append(path)
      continue
    info, shape = tensors.shapes[tensor.name], list(shapes[path].shape)
    expected = shape[::-1] if tensor.transposed else shape
    if expected:
      expected[0] *= tensor.parts
    if list(info.shape) != expected:
      misshaped.append(
        f"{tensor.name} is {list(info.shape)}, expected {expected}"
      )
    elif not _is_float(info.dtype):
      misshaped.append(f"{tensor.name} is {info.dtype}, expected floats")
  heads = {path.split("/")[0] for path in shapes} - {"encoder"}
  found = {path.split("/")[0] for path in set(shapes) - set(missing)}
  fresh = tuple(sorted(heads - found))
  faults = {
    "missing": [
      located[path].name for path in missing if path.split("/")[0] not in fresh
    ],
    "mis-shaped": misshaped,
    "unexpected": sorted(_unexpected(tensors, located, table)),
  }
  if said := [f"{kind}: {_some(x)}" for kind, x in faults.items() if x]:
    raise UserError(
      f"{where}: the tensors are not those of this model; {'; '.join(said)}"
    )
  return fresh


def _is_float(dtype: np.dtype) -> bool:
  # Not numpy's own question, to which bfloat16 is a plain "void".
  return dtype.kind == "f" or dtype.name == "bfloat16"


def _some(names: Sequence[str]) -> str:
  more = len(names) - _SHOWN
  return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _unexpected(
  tensors: Tensors, located: Mapping[str, Tensor], table: Table
) -> set[str]:
  names = set(tensors.shapes) - {tensor.name for tensor in located.values()}
  names -= set(table.copies)
  known = [re.compile(pattern) for pattern in table.ignored]
  for rows in (table.rows, *table.others):
    for row in rows.values():
      module = row if isinstance(row, str) else row.name
      pattern = re.escape(module).replace(r"\{n\}", r"\d+")
      known.append(
        re.compile(rf"{pattern}([./](weight|bias|kernel|gamma|beta))?")
      )
  return {
    name for name in names if not any(row.fullmatch(name) for row in known)
  }


def _check_copies(tensors: Tensors, table: Table, where: str) -> None:
  for copy, original in table.copies.items():
    if not {copy, original} <= set(tensors.shapes):
      continue
    if not np.array_equal(tensors.read(copy), tensors.read(original)):
      raise UserError(
        f"{where}: {copy} is not the same as {original}; only models that tie"
        " the two are supported"
      )


def named_tensors(params: Parameters, table: Table) -> dict[str, np.ndarray]:
  """A model's parameters under a checkpoint's names.

  Views of the parameters, where these are in host memory and not stacked.
  """
  parts: dict[str, dict[int, np.ndarray]] = {}
  for path, leaf in trees.flatten(params).items():
    tensor, array = table.locate(path), np.asarray(leaf)
    part = array.T if tensor.transposed else array
    parts.setdefault(tensor.name, {})[tensor.part] = part
  return {
    name: found[0]
    if len(found) == 1
    else np.concatenate([found[part] for part in sorted(found)])
    for name, found in parts.items()
  }
