"""The mesh of devices, and the placement of the rows of a batch on it."""

import bisect
import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from bert_jax import settings
from bert_jax.settings import UserError
from bert_jax.types import Batch

AXES = ("data", "fsdp", "model")
ROWS = PartitionSpec(("data", "fsdp"))
"""The axes that the rows of a batch are split over."""


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """The section `config.mesh`: the sizes of the mesh axes.

  One of the three sizes may be -1: it takes all remaining devices.

  Attributes:
    data: data parallelism: replicas of the parameters, each with its own rows.
    fsdp: fully sharded data parallelism: splits rows, parameters and optimizer
      state.
    model: tensor parallelism: splits the matrices of each layer; it should
      stay within a host.
    shard_optimizer: whether the optimizer state is split over `data` as well.
    rules: rows of (pattern of a parameter's path, axes of its dimensions)
      before those of `partitioning.DEFAULT_RULES`.
  """

  data: int = -1
  fsdp: int = 1
  model: int = 1
  shard_optimizer: bool = False
  rules: tuple[Any, ...] = ()

  def __post_init__(self):
    expected = "at least 1, or -1"
    settings.check(self, expected, lambda x: x == -1 or x >= 1, *AXES)
    if [self.data, self.fsdp, self.model].count(-1) > 1:
      raise ValueError("data: only one of data, fsdp and model may be -1")
    for row in self.rules:
      if len(row) != 2 or not isinstance(row[0], str):
        raise ValueError(f"rules: expected (pattern, axes), got {row!r}")
    rows = ((pattern, _axes(axes)) for pattern, axes in self.rules)
    object.__setattr__(self, "rules", tuple(rows))


def _axes(axes: Any) -> tuple[Any, ...]:
  """The axes of a row; JSON has lists instead of tuples."""
  if not isinstance(axes, list | tuple):
    raise ValueError(f"rules: expected a list of axes, got {axes!r}")
  return tuple(tuple(x) if isinstance(x, list) else x for x in axes)


def make_mesh(
  config: MeshConfig, devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
  """A mesh with the axes `data`, `fsdp` and `model`.

  By default it has all devices of all processes.

  Raises:
    UserError: the axes do not use exactly these devices.
  """
  devices = jax.devices() if devices is None else devices
  sizes = [getattr(config, name) for name in AXES]
  if -1 in sizes:
    given = math.prod(size for size in sizes if size != -1)
    sizes[sizes.index(-1)] = len(devices) // given
  if math.prod(sizes) != len(devices):
    raise UserError(
      f"config.mesh: data {config.data} x fsdp {config.fsdp} x model"
      f" {config.model} does not fit {len(devices)} devices"
    )
  return jax.make_mesh(
    tuple(sizes),
    AXES,
    axis_types=(jax.sharding.AxisType.Auto,) * len(AXES),
    devices=devices,
  )


def batch_devices(mesh: jax.sharding.Mesh) -> int:
  """The number of devices that the rows of a batch are split over."""
  return mesh.shape["data"] * mesh.shape["fsdp"]


def check_rows(
  batch_size: int, accumulation: int, mesh: jax.sharding.Mesh
) -> None:
  """Checks that the rows of micro-batches divide over the devices.

  Raises:
    UserError: they do not.
  """
  devices = batch_devices(mesh)
  if batch_size % (devices * accumulation):
    raise UserError(
      f"config.batch_size: {batch_size} rows do not divide over {devices}"
      f" devices x {accumulation} micro-batches"
    )


def batch_shapes(
  blank: Batch, mesh: jax.sharding.Mesh, batch_size: int
) -> Batch:
  """The shapes and shardings of a batch of examples of one shape."""
  sharding = NamedSharding(mesh, ROWS)
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(
      (batch_size, *x.shape), x.dtype, sharding=sharding
    ),
    blank,
  )


def put_clock(seen: float, mesh: jax.sharding.Mesh) -> jax.Array:
  """The clock of each process on each of its devices; float32 [devices]."""
  sharding = NamedSharding(mesh, PartitionSpec(AXES))
  return jax.make_array_from_callback(
    (mesh.size,), sharding, lambda _: np.full(1, seen, np.float32)
  )


@functools.lru_cache
def own_rows(mesh: jax.sharding.Mesh, batch_size: int) -> tuple[int, ...]:
  """The rows of a batch on the devices of this process, in ascending order.

  Every row belongs to a process, and to several only where the axis `model`
  spans them.

  Raises:
    UserError: the rows do not divide over the devices.
  """
  if batch_size % batch_devices(mesh):
    raise UserError(
      f"config.batch_size or config.evaluation.batch_size: {batch_size} rows"
      f" do not divide over {batch_devices(mesh)} devices"
    )
  sharding = NamedSharding(mesh, ROWS)
  pieces = sharding.addressable_devices_indices_map((batch_size,))
  rows = {row for (p,) in pieces.values() for row in range(batch_size)[p]}
  return tuple(sorted(rows))


def put_batch(
  batch: Batch, mesh: jax.sharding.Mesh, batch_size: int | None = None
) -> Batch:
  """A global batch, split over `data` and `fsdp`, of this process's rows.

  Args:
    batch: a pytree of NumPy arrays, with rows on the leading axis.
    mesh: from `make_mesh`.
    batch_size: rows of a batch over all processes, where this one has only
      its `own_rows`; None where every process has all.

  Raises:
    UserError: the rows do not divide over the devices.
  """
  sharding = NamedSharding(mesh, ROWS)
  size = batch_size or len(jax.tree.leaves(batch)[0])
  own = own_rows(mesh, size)
  rows = own if batch_size else range(size)

  def put(array: np.ndarray) -> jax.Array:
    def piece(index: tuple[slice, ...]) -> np.ndarray:
      # The rows of one device are consecutive, in the batch and here.
      first, last, _ = index[0].indices(size)
      begin = bisect.bisect_left(rows, first)
      return array[begin : begin + last - first]

    return jax.make_array_from_callback(
      (size, *array.shape[1:]), sharding, piece
    )

  return jax.tree.map(lambda x: put(np.asarray(x)), batch)
