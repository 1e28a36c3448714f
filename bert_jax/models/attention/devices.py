"""What a function that is being traced will be compiled for."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array

LANES = 128
"""Of a register of a TPU."""

# The axes of a mesh, as in `training.meshes`.
_ROWS, _HEADS = ("data", "fsdp"), "model"


class Device(NamedTuple):
  """A kind of device.

  Attributes:
    platform: `cpu`, `gpu` or `tpu`.
    kind: as in `NVIDIA H100 80GB HBM3`.
    rows: how many devices of the mesh share the rows of a batch.
    heads: how many share the heads.
  """

  platform: str
  kind: str
  rows: int = 1
  heads: int = 1


def current() -> Device:
  """The devices of the mesh in context (`jax.set_mesh`), or jax's default.

  The mesh may be of devices that are not here, see `bert_jax.aot`.
  """
  mesh = jax.sharding.get_abstract_mesh()
  device = mesh.abstract_device
  if device is None:
    device = jax.devices()[0]
  sizes = [_size(mesh, axes) for axes in (_ROWS, (_HEADS,))]
  return Device(device.platform, device.device_kind, *sizes)


def per_device(function: Callable[..., Array], *arrays: Array) -> Array:
  """Runs attention on each device of the mesh in context, on its own share.

  XLA splits what is made of its own operations; a kernel it would have to
  run on all rows and heads everywhere.

  Args:
    function: of the arrays.
    *arrays: queries, keys, values, sequence ids, and for dropout of weights
      the seeds of rows and heads.

  Returns:
    What is mixed.
  """
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty:
    return function(*arrays)
  names = set(mesh.axis_names)
  rows = tuple(name for name in _ROWS if name in names)
  heads = _HEADS if _HEADS in names else None
  split = PartitionSpec(rows, None, heads)
  splits = (split,) * 3 + (PartitionSpec(rows), PartitionSpec(rows, heads))
  return jax.shard_map(
    function,
    in_specs=splits[: len(arrays)],
    out_specs=split,
    # A kernel does not say over which axes its results differ.
    check_vma=False,
  )(*arrays)


def _size(mesh: jax.sharding.AbstractMesh, axes: tuple[str, ...]) -> int:
  sizes = (mesh.shape.get(name, 1) for name in axes)
  return math.prod(sizes)
