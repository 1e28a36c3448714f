"""Tables of parameter names, which read and write checkpoints of others."""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from bert_jax import trees
from bert_jax.interop.tensor_reader import TensorReader
from bert_jax.settings import UserError
from bert_jax.types import Parameters

_LAYER = re.compile(r"layer_(\d+)")
_MAX_LISTED = 12


class Tensor(NamedTuple):
  """The tensor of a checkpoint that holds a parameter.

  Attributes:
    name: the name of the tensor.
    transposed: whether its two axes are exchanged.
    part: the index of the parameter, if a tensor concatenates several along
      the first axis.
    parts: the number of parameters that it concatenates.
  """

  name: str
  transposed: bool = False
  part: int = 0
  parts: int = 1


Rows = Mapping[str, str | Tensor]
"""Paths of our modules or parameters to names in a checkpoint.

`{n}` is the number of a layer, or with `Table.group` that of a group of layers,
and `{m}` that of the layer in its group. The row of a module applies to all of
its parameters, which `Leaves` names; the row of a parameter is its `Tensor`.
"""

Leaves = Callable[[str, str], Tensor]
"""From a module and a parameter, such as `kernel`, to its tensor."""


class Table(NamedTuple):
  """The names of the tensors of a model.

  Attributes:
    rows: the rows of the model.
    leaves: the naming of parameters in the format.
    copies: tensors that must equal another tensor, and replace it where it is
      missing; from the copy to the original.
    ignored: patterns of tensors that are not parameters of any of our models.
    others: rows of heads that the model lacks, whose tensors are ignored.
    group: the number of layers of a group.
  """

  rows: Rows
  leaves: Leaves
  copies: Mapping[str, str]
  ignored: Sequence[str]
  others: Sequence[Rows]
  group: int = 1

  def locate(self, path: str) -> Tensor | None:
    """The tensor of a parameter; None if no row applies to its path."""
    numbers = _LAYER.findall(path)
    key = _LAYER.sub("layer_{n}", path)
    module, leaf = key.rsplit("/", 1)
    row = self.rows.get(key, self.rows.get(module))
    if row is None:
      return None
    if isinstance(row, str):
      tensor = self.leaves(row, leaf)
    elif key in self.rows:
      tensor = row
    else:
      named = self.leaves(row.name, leaf)
      tensor = row._replace(name=named.name, transposed=named.transposed)
    if numbers:
      group, place = divmod(int(numbers[0]), self.group)
      name = tensor.name.replace("{n}", f"{group}").replace("{m}", f"{place}")
      tensor = tensor._replace(name=name)
    return tensor

  def is_in(self, tensors: TensorReader, path: str) -> bool:
    """Whether a checkpoint has the parameter of this path."""
    tensor = self.locate(path)
    return tensor is not None and tensor.name in tensors.shapes


def torch_leaves(module: str, leaf: str) -> Tensor:
  """The names of PyTorch, where a kernel is a transposed `weight`."""
  name = "bias" if leaf == "bias" else "weight"
  return Tensor(f"{module}.{name}", transposed=leaf == "kernel")


def tensorflow_leaves(module: str, leaf: str) -> Tensor:
  """The names of TensorFlow 1, where an embedding is named as its module."""
  if leaf == "embedding":
    return Tensor(module)
  is_norm = module.endswith("LayerNorm")
  norm_names = {"scale": "gamma", "bias": "beta"}
  return Tensor(f"{module}/{norm_names[leaf] if is_norm else leaf}")


class LoadedParams(NamedTuple):
  """Parameters read from a checkpoint.

  `newly_initialized` are the heads that the checkpoint lacks.
  """

  params: Parameters
  newly_initialized: tuple[str, ...]


def read_params(
  tensors: TensorReader,
  wanted: Parameters,
  table: Table,
  where: str,
  place: Callable[[str, np.ndarray], Any] | None = None,
  ignore_unexpected: bool = False,
) -> LoadedParams:
  """Reads the parameters of a model, one tensor at a time, the largest first.

  Args:
    tensors: the checkpoint; its floating-point dtypes are converted.
    wanted: shape structs of the parameters.
    table: their names in the checkpoint.
    where: the checkpoint, for messages.
    place: from the path and array of a parameter to an array on devices; by
      default on the first local device.
    ignore_unexpected: whether tensors in no row of the table are left out, with
      a warning that lists them.

  Raises:
    UserError: tensors are missing, other than all of a head, have other
      shapes, or are unexpected.
  """
  place = place or (lambda _, array: jax.device_put(array))
  shapes = trees.flatten(wanted)
  unnamed = Tensor("(no name)")
  located = {path: table.locate(path) or unnamed for path in shapes}
  stand_ins = {
    original: copy
    for copy, original in table.copies.items()
    if copy in tensors.shapes and original not in tensors.shapes
  }
  for path, tensor in located.items():
    name = stand_ins.get(tensor.name, tensor.name)
    located[path] = tensor._replace(name=name)
  unexpected = sorted(_unexpected(tensors, located, table))
  if unexpected and ignore_unexpected:
    warnings.warn(f"{where}: ignored {_first(unexpected)}", stacklevel=2)
    unexpected = []
  new = _check(tensors, shapes, located, unexpected, where)
  _check_copies(tensors, table, where)
  flat, last = {}, (None, None)
  for path in sorted(
    (path for path in shapes if path.split("/")[0] not in new),
    key=lambda path: (-_bytes(tensors, located[path]), located[path]),
  ):
    tensor = located[path]
    if last[0] != tensor.name:
      last = (None, None)  # Frees the previous tensor.
      last = (tensor.name, tensors.read(tensor.name))
    flat[path] = place(path, _parameter(last[1], tensor, shapes[path].dtype))
    if tensor.parts == 1:
      last = (None, None)
  return LoadedParams(trees.unflatten(flat), new)


def _bytes(tensors: TensorReader, tensor: Tensor) -> int:
  info = tensors.shapes[tensor.name]
  return int(np.prod(info.shape)) * info.dtype.itemsize


def _parameter(array: np.ndarray, tensor: Tensor, dtype: Any) -> np.ndarray:
  if tensor.parts > 1:
    array = np.split(array, tensor.parts)[tensor.part]
  if tensor.transposed:
    array = array.T
  # Views: the transfer to the device copies them anyway.
  return array.astype(dtype, copy=False)


def _check(
  tensors: TensorReader,
  shapes: Mapping[str, Any],
  located: Mapping[str, Tensor],
  unexpected: Sequence[str],
  where: str,
) -> tuple[str, ...]:
  """Checks names, shapes and dtypes; returns the heads that are missing."""
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
    # For NumPy, bfloat16 is a "void" dtype.
    elif info.dtype.kind != "f" and info.dtype.name != "bfloat16":
      misshaped.append(f"{tensor.name} is {info.dtype}, expected floats")
  heads = {path.split("/")[0] for path in shapes} - {"encoder"}
  found = {path.split("/")[0] for path in set(shapes) - set(missing)}
  new = tuple(sorted(heads - found))
  faults = {
    "missing": [
      located[path].name for path in missing if path.split("/")[0] not in new
    ],
    "mis-shaped": misshaped,
    "unexpected": unexpected,
  }
  if listed := [f"{kind}: {_first(x)}" for kind, x in faults.items() if x]:
    remedy = " (ignore_unexpected leaves them out)" if unexpected else ""
    raise UserError(
      f"{where}: the tensors are not those of this model;"
      f" {'; '.join(listed)}{remedy}"
    )
  return new


def _first(names: Sequence[str]) -> str:
  more = len(names) - _MAX_LISTED
  rest = f" and {more} more" if more > 0 else ""
  return ", ".join(names[:_MAX_LISTED]) + rest


def _unexpected(
  tensors: TensorReader, located: Mapping[str, Tensor], table: Table
) -> set[str]:
  names = set(tensors.shapes) - {tensor.name for tensor in located.values()}
  names -= set(table.copies)
  known = [re.compile(pattern) for pattern in table.ignored]
  for rows in (table.rows, *table.others):
    for row in rows.values():
      module = row if isinstance(row, str) else row.name
      pattern = re.sub(r"\\{[nm]\\}", r"\\d+", re.escape(module))
      known.append(
        re.compile(rf"{pattern}([./](weight|bias|kernel|gamma|beta))?")
      )
  return {
    name for name in names if not any(row.fullmatch(name) for row in known)
  }


def _check_copies(tensors: TensorReader, table: Table, where: str) -> None:
  for copy, original in table.copies.items():
    if not {copy, original} <= set(tensors.shapes):
      continue
    if not np.array_equal(tensors.read(copy), tensors.read(original)):
      raise UserError(
        f"{where}: {copy} differs from {original}; only models that tie the two"
        " are supported"
      )


def named_tensors(params: Parameters, table: Table) -> dict[str, np.ndarray]:
  """The parameters of a model by their names in a checkpoint.

  They are views where the parameters are in host memory and not concatenated.
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
