"""Batches as the inputs of an exported model, and its outputs by name."""

import math
import os
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from bert_jax.batch import Batch
from bert_jax.settings import UserError
from bert_jax.tasks.inputs.rows import PREFIX
from bert_jax.tasks.task import Task

# The tokens that go through the model at once, of one thread.
_TOKENS = 1024

MASKED = "masked_positions"
SKIPPED = "skipped_tokens"
TOKENS = "token_embeddings"

# The head without parameters, whose output is that of the encoder.
_HIDDEN = "hidden_states"
TARGETS = {
  MASKED: "masked_lm/positions",
  SKIPPED: f"{PREFIX}prompt_tokens",
}

Compute = Callable[
  [Mapping[str, np.ndarray], Sequence[str]], Sequence[np.ndarray]
]
"""From the inputs of a model, and names of its outputs, to these outputs."""


class Signature:
  """The inputs and outputs of an exported model, for batches of its task.

  Attributes:
    outputs: the names of outputs that can be asked for: heads as the task
      names them, and what else the model has. In a task with parts, those of
      any part.
  """

  def __init__(
    self,
    task: Task,
    inputs: Mapping[str, int],
    outputs: Sequence[str],
  ):
    """Reads nothing.

    Args:
      task: that was exported, bound to its encoder.
      inputs: the number of axes of each input of the model.
      outputs: the names of the model's outputs.
    """
    self._task, self._inputs = task, dict(inputs)
    self._names = frozenset(outputs)
    parts = task.parts or {"": task}
    own = [self._known(name, part) for name, part in parts.items()]
    self.outputs = tuple(dict.fromkeys(x for names in own for x in names))

  def _known(self, part: str, task: Task) -> Mapping[str, str]:
    """The model's outputs by the names of one part, heads first."""
    prefix = f"{part}/" if part else ""
    found = {}
    for head in task.head_names.values():
      found[head] = TOKENS if head == _HIDDEN else prefix + head
    for name in sorted(self._names):
      if name == TOKENS or (prefix and name.startswith(prefix)):
        found.setdefault(name.removeprefix(prefix), name)
      elif not prefix:
        found.setdefault(name, name)
    return found

  def select(
    self, batch: Batch, names: Sequence[str] | None
  ) -> Mapping[str, str]:
    """The model's outputs to compute, by the names that were asked for.

    Args:
      batch: the input.
      names: of `outputs`; None for the heads of the batch's task.

    Raises:
      UserError: the model has no such output.
    """
    task = self._task.parts.get(batch.task, self._task)
    known = self._known(batch.task, task)
    if names is None:
      names = tuple(task.head_names.values())
    for name in names:
      if name not in known:
        raise UserError(
          f"output: the model has {', '.join(known)}, got {name!r}"
        )
    return {name: known[name] for name in names}

  def feed(self, batch: Batch) -> dict[str, np.ndarray]:
    """The model's inputs.

    Raises:
      UserError: rows are longer than the model takes, several sequences are
        packed into a row, or a prompt is left out that the model pools.
    """
    ids, limit = np.asarray(batch.token_ids), self._task.config.max_positions
    if ids.shape[-1] > limit:
      raise UserError(
        f"the model takes at most {limit} tokens a row, got {ids.shape[-1]}"
      )
    sequences = np.asarray(batch.sequence_ids)
    if sequences.max(initial=0) > 1:
      raise UserError("an exported model takes one sequence a row, got several")
    if TARGETS[SKIPPED] in batch.targets and SKIPPED not in self._inputs:
      raise UserError(
        "the exported model pools the tokens of prompts; export it with"
        " include_prompt=False to leave them out"
      )
    rank = self._inputs["input_ids"]
    arrays = {
      "input_ids": ids,
      "attention_mask": sequences,
      "token_type_ids": np.asarray(batch.segment_ids),
    }
    made = {
      name: _as_rank(array, rank).astype(np.int64)
      for name, array in arrays.items()
      if name in self._inputs
    }
    rows = len(made["input_ids"])
    if MASKED in self._inputs:
      positions = batch.targets.get(TARGETS[MASKED])
      if positions is None:
        positions = np.zeros((rows, 1))
      made[MASKED] = np.asarray(positions, np.int64)
    if SKIPPED in self._inputs:
      skipped = batch.targets.get(TARGETS[SKIPPED], np.zeros(len(ids)))
      # One for each row, of rows of several texts for each text.
      made[SKIPPED] = np.repeat(np.asarray(skipped, np.int64), rows // len(ids))
    return made

  def run(
    self,
    batch: Batch,
    names: Sequence[str] | None,
    compute: Compute,
    tokens: int,
  ) -> Mapping[str, np.ndarray]:
    """The outputs for a batch, computed for some of its rows at a time.

    Rows go through the model in parts of at most `tokens` tokens, padding
    included, or one by one: what does not stay in the caches of a core takes
    a fifth longer, and the memory of the largest batch stays taken.

    Args:
      batch: the input.
      names: of `outputs`; None for the heads of the batch's task.
      compute: computes some outputs of the model for some inputs.
      tokens: of a part.

    Raises:
      UserError: the model has no such output, or does not take the batch.
    """
    chosen, inputs = self.select(batch, names), self.feed(batch)
    fetched = tuple(dict.fromkeys(chosen.values()))
    rows, *axes = inputs["input_ids"].shape
    step = max(1, tokens // max(1, math.prod(axes)))
    parts = [
      compute(
        {name: x[start : start + step] for name, x in inputs.items()}, fetched
      )
      for start in range(0, max(1, rows), step)
    ]
    arrays = {
      name: np.concatenate(pieces) if pieces[1:] else pieces[0]
      for name, *pieces in zip(fetched, *parts)
    }
    return {
      name: self.restore(batch, arrays[fetch]) for name, fetch in chosen.items()
    }

  def restore(self, batch: Batch, output: np.ndarray) -> np.ndarray:
    """An output with the axes of the batch's rows."""
    rows, rank = np.shape(batch.token_ids)[:-1], self._inputs["input_ids"]
    if rank == len(rows) + 1:
      return output
    # All axes of the model's ids but the last are of rows.
    return output.reshape(*rows, *output.shape[rank - 1 :])


class PartsForward:
  """A forward pass that computes some rows of a batch at a time.

  Subclasses define `_compute`, a `Compute`, which takes batches of every shape.

  Attributes:
    outputs: the names that a call takes: the heads of the task, and others
      that the file has, such as `token_embeddings`.
    dynamic_shapes: True, since batches of every shape run at once.
  """

  dynamic_shapes = True

  def __init__(self, signature: Signature, threads: int):
    """Computes nothing.

    Args:
      signature: of the model.
      threads: that compute one batch; 0 for one for each core.
    """
    self._signature, self.outputs = signature, signature.outputs
    self._tokens = _TOKENS * (threads or os.cpu_count() or 1)

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
    return self._signature.run(batch, names, self._compute, self._tokens)

  def _compute(
    self, inputs: Mapping[str, np.ndarray], names: Sequence[str]
  ) -> Sequence[np.ndarray]:
    raise NotImplementedError


def _as_rank(array: np.ndarray, rank: int) -> np.ndarray:
  """Rows of several texts as rows of one, where the model takes those."""
  if array.ndim == rank:
    return array
  if rank == 2:
    return array.reshape(-1, array.shape[-1])
  # A single text for each row.
  return array[:, None]
