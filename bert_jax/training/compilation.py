"""The update function, compiled once for each shape of batches."""

from collections.abc import Callable, Hashable, Mapping
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from bert_jax.settings import UserError
from bert_jax.training.mesh import meshes
from bert_jax.types import Batch, Mean, TrainState


def compile_lowered(
  lowered: jax.stages.Lowered, options: Mapping[str, Any]
) -> jax.stages.Compiled:
  """Compiles with `config.compiler_options`.

  Raises:
    UserError: the compiler does not know an option, or its value is invalid.
  """
  try:
    return lowered.compile(compiler_options=dict(options) or None)
  except jax.errors.JaxRuntimeError as error:
    reason = str(error).removeprefix("INVALID_ARGUMENT: ")
    if not reason.startswith(("No such compile option", "While setting")):
      raise
    raise UserError(f"config.compiler_options: {reason}") from error


class CompiledUpdate:
  """The update on a mesh; a state's buffers are donated to the next state.

  Compilation is a separate call, so that it is never part of a measured time.
  `update_fn` is from `train.make_update`, `batch_size` the number of rows of an
  update over all hosts, and `prepare` maps a batch on the mesh to that which
  the update takes.
  """

  def __init__(
    self,
    update_fn: Callable[..., tuple[TrainState, dict[str, Mean]]],
    mesh: jax.sharding.Mesh,
    batch_size: int,
    compiler_options: Mapping[str, Any] | None = None,
    prepare: Callable[[Batch], Batch] | None = None,
  ):
    self._update_fn = update_fn
    self._mesh, self._batch_size = mesh, batch_size
    self._options = compiler_options or {}
    self._prepare = prepare
    self._compiled: dict[Hashable, jax.stages.Compiled] = {}

  def is_compiled(self, batch: Batch) -> bool:
    """Whether the update for batches of this shape is compiled."""
    return _shape(batch) in self._compiled

  def compile(
    self, state: TrainState, batch: Batch, clock: float | None = None
  ) -> None:
    """Compiles the update for this shape."""
    lowered = self.lower(state, self._put(batch), *self._clock(clock))
    self._compiled[_shape(batch)] = compile_lowered(lowered, self._options)

  def lower(
    self, state: TrainState, batch: Batch, *clock: jax.Array
  ) -> jax.stages.Lowered:
    """Lowers the update.

    Args:
      state: arrays, or shape structs with shardings.
      batch: the same, placed on the mesh.
      *clock: from `meshes.put_clock`, if the schedule follows the time.
    """
    everywhere = NamedSharding(self._mesh, PartitionSpec())
    update = jax.jit(
      self._update_fn,
      donate_argnums=0,
      # Else the compiler may choose another layout for the next state.
      out_shardings=(jax.tree.map(lambda x: x.sharding, state), everywhere),
    )
    # Attention looks up the mesh that it is compiled for.
    with jax.set_mesh(self._mesh):
      return update.lower(state, batch, *clock)

  def __call__(
    self, state: TrainState, batch: Batch, clock: float | None = None
  ) -> tuple[TrainState, dict[str, Mean]]:
    """One update.

    Args:
      state: is donated.
      batch: the rows of this process, of a compiled shape.
      clock: the step of a schedule that follows the time.
    """
    update = self._compiled[_shape(batch)]
    return update(state, self._put(batch), *self._clock(clock))

  def _put(self, batch: Batch) -> Batch:
    put = meshes.put_batch(batch, self._mesh, self._batch_size)
    return put if self._prepare is None else self._prepare(put)

  def _clock(self, clock: float | None) -> tuple[jax.Array, ...]:
    return () if clock is None else (meshes.put_clock(clock, self._mesh),)

  def summary(self) -> str:
    """The number of compiled updates and the row lengths."""
    lengths = sorted({shape[1][0][-1] for shape in self._compiled})
    return (
      f"compiled {len(self._compiled)} updates, for rows of"
      f" {', '.join(map(str, lengths))} tokens"
    )


def _shape(batch: Batch) -> Hashable:
  leaves, structure = jax.tree.flatten(batch)
  return structure, tuple(leaf.shape for leaf in leaves)
