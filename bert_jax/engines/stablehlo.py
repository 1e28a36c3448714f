"""Exported models as StableHLO programs, run by JAX."""

import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax import export

from bert_jax.batch import Batch
from bert_jax.engines.batches import Signature
from bert_jax.settings import UserError
from bert_jax.tasks.task import Task


class StableHloForward:
  """The forward pass of a StableHLO program, compiled for each shape.

  >>> forward = StableHloForward("model.stablehlo", task)
  >>> forward(batch)["classifier"].shape
  (8, 2)

  Attributes:
    outputs: the names that a call takes: the heads of the task, and others
      that the program has, such as `token_embeddings`.
  """

  def __init__(
    self,
    program: str | os.PathLike | bytes,
    task: Task,
    weights: Mapping[str, Any] | None = None,
  ):
    """Reads the program; it is compiled in calls.

    Args:
      program: the file, or its bytes.
      task: that was exported, bound to its encoder.
      weights: by their paths, of a program that has none inside.

    Raises:
      UserError: the program is damaged, or this version of JAX does not read
        it.
    """
    is_data = isinstance(program, bytes)
    where = "the program" if is_data else os.fspath(program)
    data = program if is_data else pathlib.Path(program).read_bytes()
    try:
      exported = export.deserialize(bytearray(data))
    except Exception as error:  # Of Flatbuffers or MLIR.
      raise UserError(
        f"{where}: JAX {jax.__version__} cannot read it: {error!r:.200}"
      ) from error
    arguments, _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    outputs = jax.tree.unflatten(exported.out_tree, exported.out_avals)
    if (weights is not None) != (len(arguments) == 2):
      raise UserError(f"{where}: its weights are not where they should be")
    self._weights = () if weights is None else (jax.device_put(dict(weights)),)
    self._call = jax.jit(exported.call)
    self._signature = Signature(
      task, {name: x.ndim for name, x in arguments[-1].items()}, [*outputs]
    )
    self.outputs = self._signature.outputs

  def __call__(
    self, batch: Batch, names: Sequence[str] | None = None
  ) -> Mapping[str, np.ndarray]:
    """The outputs for a padded batch of NumPy arrays.

    Args:
      batch: the input.
      names: of `outputs`; None for the heads of the task.

    Raises:
      UserError: the model has no such output, or does not take the batch.
    """
    chosen = self._signature.select(batch, names)
    inputs = {
      name: x.astype(np.int32)
      for name, x in self._signature.feed(batch).items()
    }
    found = self._call(*self._weights, inputs)
    return {
      name: self._signature.restore(batch, np.asarray(found[fetch]))
      for name, fetch in chosen.items()
    }
