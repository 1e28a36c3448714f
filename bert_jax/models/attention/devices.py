"""The devices that a traced function will be compiled for."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
from jax.sharding import PartitionSpec
from jaxtyping import Array

from bert_jax.models.attention.visibility import Tokens

LANES = 128
"""The lanes of a vector register of a TPU."""

# The axes of a mesh, as in `training.mesh.meshes`.
_ROWS, _HEADS = ("data", "fsdp"), "model"


class Device(NamedTuple):
  """The devices of a mesh.

  `rows` and `heads` are the numbers of shards of the rows and of the heads.
  """

  platform: str
  kind: str
  rows: int = 1
  heads: int = 1


def current() -> Device:
  """The devices of the mesh in context (`jax.set_mesh`), or JAX's default.

  The mesh may be one of abstract devices; see `bert_jax.aot`.
  """
  mesh = jax.sharding.get_abstract_mesh()
  device = mesh.abstract_device
  if device is None:
    device = jax.devices()[0]
  rows = math.prod(mesh.shape.get(name, 1) for name in _ROWS)
  heads = mesh.shape.get(_HEADS, 1)
  return Device(device.platform, device.device_kind, rows, heads)


def per_device(
  function: Callable[..., Array], *arrays: Array | Tokens
) -> Array:
  """Runs attention on the shard of each device of the mesh in context.

  XLA does not partition kernels: without `shard_map`, each device would run
  them on all rows and heads.

  The arrays are queries, keys and values [rows, length, heads, depth], those of
  `Tokens`, and for dropout of weights seeds [rows, heads].
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
    # Kernels do not declare over which axes their results vary.
    check_vma=False,
  )(*arrays)
