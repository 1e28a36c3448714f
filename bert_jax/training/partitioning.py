"""How parameters, optimizer state and batches lie on the devices."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from bert_jax import trees
from bert_jax.settings import UserError
from bert_jax.training.state import TrainState
from bert_jax.types import Batch, Parameters

AXES = ("data", "fsdp", "model")
_BATCH = PartitionSpec(("data", "fsdp"))

Axes = str | tuple[str, ...] | None
Rules = Sequence[tuple[str, tuple[Axes, ...]]]
"""Rows of (pattern of a parameter's path, mesh axes of each dimension).

The first row whose pattern matches the whole path holds; dimensions beyond
the row's end are not split. There is no row that catches all: a parameter
that no row matches is an error, so that none is replicated by oversight.
"""

# Where several tasks share an encoder, heads lie under their task's name.
_HEAD = r"([^/]+/)?"

# Within `model`, a pair of kernels splits first its inner, then its outer
# dimension, so that the activations between them stay split and one sum over
# devices follows (Shoeybi et al. 2019, arXiv:1909.08053). Embeddings are never
# split by width: their lookup would split the activations so, against the
# rows, and XLA then reshards at a cost, on CPU even with wrong gradients.
DEFAULT_RULES: Rules = (
  (r"encoder/embeddings/word/embedding", (("model", "fsdp"),)),
  (r"encoder/embeddings/(position|segment)/embedding", ()),
  (r"encoder/embeddings/projection/kernel", (None, "fsdp")),
  (r"encoder/embeddings/projection/bias", ()),
  (r"(.+/)?\w*norm/(scale|bias)", ()),
  (r".+/attention/(query|key|value)/kernel", ("fsdp", "model")),
  (r".+/attention/(query|key|value)/bias", ("model",)),
  (r".+/feed_forward/(intermediate|gate)/kernel", ("fsdp", "model")),
  (r".+/feed_forward/(intermediate|gate)/bias", ("model",)),
  (r".+/(attention|feed_forward)/output/kernel", ("model", "fsdp")),
  (r".+/(attention|feed_forward)/output/bias", ()),
  (rf"{_HEAD}(pooler|(masked_lm/)?transform)/dense/kernel", ("fsdp", "model")),
  (rf"{_HEAD}(pooler|(masked_lm/)?transform)/dense/bias", ("model",)),
  (rf"{_HEAD}masked_lm/bias", ("model",)),
  (rf"{_HEAD}(next_sentence|classifier|intent|slots)/kernel", ("fsdp", None)),
  (rf"{_HEAD}(next_sentence|classifier|intent|slots)/bias", ()),
)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """How many ways each kind of parallelism splits the devices.

  Attributes:
    data: copies of the parameters, each with its own rows; -1 takes all
      devices that the other axes leave.
    fsdp: splits rows, and parameters and optimizer state too.
    model: splits the matrices of each layer; it should stay within a host.
  """

  data: int = -1
  fsdp: int = 1
  model: int = 1

  def __post_init__(self):
    if self.data != -1 and self.data < 1:
      raise ValueError(f"data: expected at least 1, or -1, got {self.data}")
    for name in ("fsdp", "model"):
      if getattr(self, name) < 1:
        raise ValueError(
          f"{name}: expected at least 1, got {getattr(self, name)}"
        )


def make_mesh(
  config: MeshConfig, devices: Sequence[jax.Device] | None = None
) -> jax.sharding.Mesh:
  """A mesh with the axes `data`, `fsdp` and `model`.

  Args:
    config: the sizes of the axes.
    devices: what to lay out; by default all devices of all hosts.

  Raises:
    UserError: the axes do not use exactly these devices.
  """
  devices = jax.devices() if devices is None else devices
  given = config.fsdp * config.model
  data = len(devices) // given if config.data == -1 else config.data
  if data * given != len(devices):
    raise UserError(
      f"config.mesh: data {config.data} x fsdp {config.fsdp} x model"
      f" {config.model} does not fit {len(devices)} devices"
    )
  return jax.make_mesh(
    (data, config.fsdp, config.model),
    AXES,
    axis_types=(jax.sharding.AxisType.Auto,) * len(AXES),
    devices=devices,
  )


def batch_devices(mesh: jax.sharding.Mesh) -> int:
  """How many ways the rows of a batch are split."""
  return mesh.shape["data"] * mesh.shape["fsdp"]


def put_batch(batch: Batch, mesh: jax.sharding.Mesh) -> Batch:
  """Puts this host's rows of a batch on its devices.

  Args:
    batch: a pytree of NumPy arrays with the host's rows on the leading axis;
      hosts give equal numbers of rows, in the order of their indices.
    mesh: from `make_mesh`.

  Returns:
    The global batch, split by rows over `data` and `fsdp`.

  Raises:
    UserError: the rows do not divide over the devices.
  """
  sharding = NamedSharding(mesh, _BATCH)
  rows = jax.tree.leaves(batch)[0].shape[0] * jax.process_count()
  if rows % batch_devices(mesh):
    raise UserError(
      f"config.batch_size or config.evaluation.batch_size: {rows} rows do not"
      f" divide over {batch_devices(mesh)} devices"
    )
  return jax.tree.map(
    lambda x: jax.make_array_from_process_local_data(sharding, np.asarray(x)),
    batch,
  )


def shardings(
  mesh: jax.sharding.Mesh, params: Any, rules: Rules = DEFAULT_RULES
) -> Any:
  """Where each parameter lies.

  Args:
    mesh: from `make_mesh`.
    params: parameters or their shape structs.
    rules: the table.

  Returns:
    The same tree of shardings.

  Raises:
    UserError: no row matches a parameter, or its row does not fit its shape.
  """
  return trees.map_with_path(
    lambda path, leaf: NamedSharding(
      mesh, _partition(mesh, path, leaf.shape, rules)
    ),
    params,
  )


def state_shapes(
  init: Callable[[], TrainState],
  mesh: jax.sharding.Mesh,
  rules: Rules = DEFAULT_RULES,
) -> TrainState:
  """The shapes, dtypes and shardings of a state, without its arrays.

  The optimizer's moments lie where their parameters lie; scalars and the key
  are on every device.

  Args:
    init: makes the state; it is traced, not run.
    mesh: from `make_mesh`.
    rules: the table for the parameters.

  Returns:
    A state of `jax.ShapeDtypeStruct`.

  Raises:
    UserError: see `shardings`.
  """
  shapes = jax.eval_shape(init)
  by_path = trees.flatten(shardings(mesh, shapes.params, rules))
  params = trees.flatten(shapes.params)

  def place(path: str, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    sharding = NamedSharding(mesh, PartitionSpec())
    if leaf.ndim:
      # A moment's path ends in the path of its parameter.
      steps = path.split("/")
      names = ("/".join(steps[i:]) for i in range(len(steps)))
      name = next((name for name in names if name in by_path), None)
      assert name is not None, f"{path}: an array of no parameter"
      assert leaf.shape == params[name].shape, f"{path}: not shaped as {name}"
      sharding = by_path[name]
    return leaf.update(sharding=sharding)

  return trees.map_with_path(place, shapes)


def init_state(
  init: Callable[[], TrainState],
  mesh: jax.sharding.Mesh,
  state_of: Callable[[Parameters], TrainState] | None = None,
  params: Parameters | None = None,
  rules: Rules = DEFAULT_RULES,
) -> TrainState:
  """Makes a state whose arrays never lie on one device as a whole.

  Args:
    init: makes the state; its values do not depend on the mesh.
    mesh: from `make_mesh`.
    state_of: instead, makes it of `params`, which it takes the memory of.
    params: parameters where they are to lie.
    rules: the table for the parameters.

  Raises:
    UserError: see `shardings`.
  """
  shapes = state_shapes(init, mesh, rules)
  where = jax.tree.map(lambda leaf: leaf.sharding, shapes)
  if state_of is None:
    return jax.jit(init, out_shardings=where)()
  return jax.jit(state_of, out_shardings=where, donate_argnums=0)(params)


def put_parameter(
  mesh: jax.sharding.Mesh,
  path: str,
  array: np.ndarray,
  rules: Rules = DEFAULT_RULES,
) -> jax.Array:
  """Puts a parameter, of which every host has all, where it lies.

  Raises:
    UserError: see `shardings`.
  """
  spec = _partition(mesh, path, array.shape, rules)
  return jax.make_array_from_callback(
    array.shape, NamedSharding(mesh, spec), lambda index: array[index]
  )


def _partition(
  mesh: jax.sharding.Mesh, path: str, shape: tuple[int, ...], rules: Rules
) -> PartitionSpec:
  """The first matching row, checked against the parameter's shape."""
  matching = (axes for pattern, axes in rules if re.fullmatch(pattern, path))
  axes = next(matching, None)
  if axes is None:
    raise UserError(
      f"parameter {path}: no row of the partitioning table matches it; add one"
    )
  if len(axes) > len(shape):
    raise UserError(
      f"parameter {path}: its row {axes} in the partitioning table has more"
      f" dimensions than its shape {shape}"
    )
  for size, names in zip(shape, axes):
    names = (names,) if isinstance(names, str) else names or ()
    unknown = set(names) - set(mesh.axis_names)
    if unknown:
      raise UserError(
        f"parameter {path}: its row {axes} in the partitioning table names"
        f" {', '.join(sorted(unknown))}; known: {', '.join(mesh.axis_names)}"
      )
    ways = math.prod(mesh.shape[name] for name in names)
    if size % ways:
      raise UserError(
        f"parameter {path}: a dimension of {size} does not divide over"
        f" {ways} devices, the size of config.mesh {' x '.join(names)}"
      )
  return PartitionSpec(*axes)
