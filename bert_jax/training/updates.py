"""The update, compiled once for each shape of batches."""

from collections.abc import Hashable, Mapping
from typing import Any

import jax
import optax
from jax.sharding import NamedSharding, PartitionSpec

from bert_jax.settings import UserError
from bert_jax.tasks.task import Task
from bert_jax.training import step
from bert_jax.training.mesh import meshes
from bert_jax.training.recipe import Recipe
from bert_jax.training.step import Measures
from bert_jax.types import Batch, Parameters, TrainState


def compiled(
  lowered: jax.stages.Lowered, options: Mapping[str, Any]
) -> jax.stages.Compiled:
  """Compiles with `config.compiler_options`.

  Raises:
    UserError: the compiler has no such option, or not such a value of it.
  """
  try:
    return lowered.compile(compiler_options=dict(options) or None)
  except jax.errors.JaxRuntimeError as error:
    reason = str(error).removeprefix("INVALID_ARGUMENT: ")
    if not reason.startswith(("No such compile option", "While setting")):
      raise
    raise UserError(f"config.compiler_options: {reason}") from error


class Updates:
  """Maps a state and a batch to the next state, which takes its memory.

  Compiling is asked for by name, so that it never falls into what is timed.
  """

  def __init__(
    self,
    task: Task,
    optimizer: optax.GradientTransformation,
    recipe: Recipe,
    mesh: jax.sharding.Mesh,
    frozen: Parameters | None = None,
  ):
    """Compiles nothing yet.

    Args:
      task: gives the model and the loss.
      optimizer: what turns gradients into updates.
      recipe: for the numbers of rows and of micro-batches, and the options
        of the compiler.
      mesh: where batches are put.
      frozen: which parameters are not trained.
    """
    self._step = step.make_train_step(
      task, optimizer, recipe.accumulation, frozen
    )
    self._mesh, self._batch_size = mesh, recipe.batch_size
    self._options = recipe.compiler_options
    self._compiled: dict[Hashable, Any] = {}

  def knows(self, batch: Batch) -> bool:
    """Whether the update of batches of this shape is compiled."""
    return _shape(batch) in self._compiled

  def compile(
    self, state: TrainState, batch: Batch, clock: float | None = None
  ) -> None:
    """Compiles the update for this shape."""
    lowered = self.lower(state, self._put(batch), *self._clock(clock))
    self._compiled[_shape(batch)] = compiled(lowered, self._options)

  def lower(
    self, state: TrainState, batch: Batch, *clock: jax.Array
  ) -> jax.stages.Lowered:
    """The update to be compiled.

    Args:
      state: arrays, or shape structs with their shardings.
      batch: the same, where they lie on the mesh.
      *clock: from `meshes.put_clock`, for a run of so many hours.
    """
    everywhere = NamedSharding(self._mesh, PartitionSpec())
    update = jax.jit(
      self._step,
      donate_argnums=0,
      # Else the compiler may lay the next state out in another way.
      out_shardings=(jax.tree.map(lambda x: x.sharding, state), everywhere),
    )
    # Attention asks what it is compiled for.
    with jax.set_mesh(self._mesh):
      return update.lower(state, batch, *clock)

  def __call__(
    self, state: TrainState, batch: Batch, clock: float | None = None
  ) -> tuple[TrainState, Measures]:
    """One update.

    Args:
      state: its arrays are gone afterwards.
      batch: this process's rows, NumPy arrays of a shape that is compiled.
      clock: of a run of so many hours, where in its schedule it is.
    """
    update = self._compiled[_shape(batch)]
    return update(state, self._put(batch), *self._clock(clock))

  def _put(self, batch: Batch) -> Batch:
    return meshes.put_batch(batch, self._mesh, self._batch_size)

  def _clock(self, clock: float | None) -> tuple[jax.Array, ...]:
    return () if clock is None else (meshes.put_clock(clock, self._mesh),)

  def summary(self) -> str:
    """How many shapes were compiled for, and which row lengths they have."""
    lengths = sorted({shape[1][0][-1] for shape in self._compiled})
    return (
      f"compiled {len(self._compiled)} updates, for rows of"
      f" {', '.join(map(str, lengths))} tokens"
    )


def _shape(batch: Batch) -> Hashable:
  leaves, structure = jax.tree.flatten(batch)
  return structure, tuple(leaf.shape for leaf in leaves)
