"""The sharding of parameters and optimizer state."""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from bert_jax import trees
from bert_jax.models import vocabulary
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.training.mesh.meshes import MeshConfig, make_mesh
from bert_jax.types import Parameters, TrainState

Axes = str | tuple[str, ...] | None
Rules = Sequence[tuple[str, tuple[Axes, ...]]]
"""Rows of (pattern of a parameter's path, mesh axes of each dimension).

The first row whose pattern matches the whole path is used; dimensions beyond
the end of a row are not split. A parameter that no row matches is an error, so
that none is replicated by mistake.
"""

# Where several tasks share an encoder, heads lie under their task's name.
_HEAD = r"([^/]+/)?"

# Over `model`, the first kernel of a pair is split in its output dimension and
# the second in its input dimension, so that the activations between them stay
# split and one all-reduce follows (Shoeybi et al. 2019, arXiv:1909.08053).
# Embeddings are never split by width: their lookup would split the activations
# by width instead of rows, and XLA would reshard them, on CPU even with wrong
# gradients.
DEFAULT_RULES: Rules = (
  (r"encoder/embeddings/word/embedding", (("model", "fsdp"),)),
  (r"encoder/embeddings/(position|segment|relative)/embedding", ()),
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
  (rf"{_HEAD}masked_lm/decoder", (("model", "fsdp"),)),
  (rf"{_HEAD}masked_lm/bias", ("model",)),
  (rf"{_HEAD}vectors/[^/]+/(kernel|scale|bias)", ()),
  (rf"{_HEAD}(next_sentence|classifier|intent|slots)/kernel", ("fsdp", None)),
  (rf"{_HEAD}(next_sentence|classifier|intent|slots)/bias", ()),
  (r"exit_\d+_\w+/kernel", ("fsdp", None)),
  (r"exit_\d+_\w+/bias", ()),
  (r"lora/.+/kernel/[ab]", ()),
  (r"pruning/(heads|units)/.+|pruning/(progress|multipliers)", ()),
  (r"distillation/projection/kernel", ()),
)


_REMEDY = "; config.model.vocab_multiple pads the vocabulary"


@dataclasses.dataclass(frozen=True)
class Layout:
  """A mesh and the sharding rules of a state.

  Attributes:
    mesh: the mesh.
    rules: the table for the parameters.
    shard_optimizer: whether arrays of the optimizer are also split over
      `data`, where their parameter leaves a dimension for it (ZeRO-1).
  """

  mesh: jax.sharding.Mesh
  rules: Rules = DEFAULT_RULES
  shard_optimizer: bool = False


def make_layout(
  config: MeshConfig, devices: Sequence[jax.Device] | None = None
) -> Layout:
  """The layout of a recipe, whose own rules come before the default ones.

  Raises:
    UserError: the mesh does not use exactly these devices.
  """
  return Layout(
    make_mesh(config, devices),
    (*config.rules, *DEFAULT_RULES),
    config.shard_optimizer,
  )


def replicated() -> Layout:
  """Data parallelism: all parameters on every device, whatever their names."""
  return Layout(make_mesh(MeshConfig()), ((r".*", ()),))


def with_padded_vocabulary(
  layout: Layout, config: EncoderConfig
) -> EncoderConfig:
  """An encoder whose word embedding the default rules can split over a mesh."""
  ways = layout.mesh.shape["model"] * layout.mesh.shape["fsdp"]
  if config.vocab_rows % ways == 0:
    return config
  multiple = math.lcm(config.vocab_multiple, ways)
  return dataclasses.replace(config, vocab_multiple=multiple)


def shardings(layout: Layout, params: Any) -> Any:
  """The sharding of each parameter, or of each shape struct.

  Raises:
    UserError: no row matches a parameter, or its row does not fit its shape.
  """
  return trees.map_with_path(
    lambda path, leaf: NamedSharding(
      layout.mesh, _partition(layout, path, leaf.shape)
    ),
    params,
  )


def state_shapes(init: Callable[[], TrainState], layout: Layout) -> TrainState:
  """A state of `jax.ShapeDtypeStruct` with shardings; `init` is traced only.

  The moments of the optimizer have the sharding of their parameters, or are
  split further (`Layout.shard_optimizer`). Scalars, the key, and arrays of the
  optimizer with another shape than their parameter's are replicated.

  Raises:
    UserError: see `shardings`.
  """
  shapes = jax.eval_shape(init)
  by_path = trees.flatten(shardings(layout, shapes.params))
  params = trees.flatten(shapes.params)

  def place(path: str, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    sharding = NamedSharding(layout.mesh, PartitionSpec())
    if leaf.ndim:
      # The path of a moment ends with the path of its parameter.
      steps = path.split("/")
      names = ("/".join(steps[i:]) for i in range(len(steps)))
      name = next((name for name in names if name in by_path), None)
      if name is None or leaf.shape != params[name].shape:
        return leaf.update(sharding=sharding)
      sharding = by_path[name]
      if layout.shard_optimizer and steps[0] == "optimizer_state":
        sharding = _split_further(sharding, leaf.shape)
    return leaf.update(sharding=sharding)

  return trees.map_with_path(place, shapes)


def init_state(
  init: Callable[[], TrainState],
  layout: Layout,
  state_of: Callable[[Parameters], TrainState] | None = None,
  params: Parameters | None = None,
) -> TrainState:
  """Makes a state directly in its shardings, never whole on one device.

  Args:
    init: makes the state; its values do not depend on the mesh.
    layout: where the state lies.
    state_of: makes the state of `params` instead, which are donated.
    params: parameters in their shardings.

  Raises:
    UserError: see `shardings`.
  """
  shapes = state_shapes(init, layout)
  where = jax.tree.map(lambda leaf: leaf.sharding, shapes)
  if state_of is None:
    return jax.jit(init, out_shardings=where)()
  return jax.jit(state_of, out_shardings=where, donate_argnums=0)(params)


def put_parameter(layout: Layout, path: str, array: np.ndarray) -> jax.Array:
  """Places a parameter, of which every process has the whole array.

  Raises:
    UserError: see `shardings`.
  """
  spec = _partition(layout, path, array.shape)
  return jax.make_array_from_callback(
    array.shape, NamedSharding(layout.mesh, spec), lambda index: array[index]
  )


def put_copy(layout: Layout, params: Parameters) -> Parameters:
  """Places a copy of parameters, of which every process has all arrays."""
  return trees.map_with_path(
    lambda path, x: put_parameter(layout, path, np.array(x)), params
  )


def _partition(
  layout: Layout, path: str, shape: tuple[int, ...]
) -> PartitionSpec:
  """The first matching row, checked against the shape of the parameter."""
  mesh = layout.mesh
  rows = (axes for rule, axes in layout.rules if re.fullmatch(rule, path))
  axes = next(rows, None)
  if axes is None:
    raise UserError(
      f"parameter {path}: no row of the partitioning table matches it; add"
      " one to config.mesh.rules"
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
        f"{_REMEDY if vocabulary.has_rows(path) else ''}"
      )
  return PartitionSpec(*axes)


def _split_further(
  sharding: NamedSharding, shape: tuple[int, ...]
) -> NamedSharding:
  """Splits the first dimension that divides over `data` too."""
  mesh, spec = sharding.mesh, [*sharding.spec]
  spec += [None] * (len(shape) - len(spec))
  for i, (size, names) in enumerate(zip(shape, spec)):
    names = (names,) if isinstance(names, str) else names or ()
    names = (*names, "data")
    if size % math.prod(mesh.shape[name] for name in names) == 0:
      spec[i] = names
      return NamedSharding(mesh, PartitionSpec(*spec))
  return sharding
