"""Whether an exported model computes what JAX does."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from bert_jax.batch import Batch, Parameters
from bert_jax.export.parts import Part, module, parts
from bert_jax.models import heads
from bert_jax.predictor import Forward
from bert_jax.settings import UserError
from bert_jax.tasks.inputs.choices import Choices
from bert_jax.tasks.targets.similarity import SKIPPED, Similarity
from bert_jax.tasks.task import Task

TOLERANCE = 1e-5
"""The largest difference of outputs from those of JAX."""

_ROWS, _CHOICES, _MASKS = 3, 2, 2
# No longer rows are computed for the check.
_LONGEST = 512
_POSITIONS = "masked_lm/positions"


def compare(
  forward: Forward,
  where: Any,
  task: Task,
  params: Parameters,
  lengths: Sequence[int] | None = None,
  compiled: bool = True,
) -> float:
  """Compares an exported model with the model in JAX, on random tokens.

  Args:
    forward: runs the exported model.
    where: its file or folder, for messages.
    task: bound to its encoder.
    params: the parameters of its module.
    lengths: of the batches; by default a short one and the longest that the
      task has, at most 512. Rows of a batch have lengths from 1 up to that.
    compiled: whether JAX compiles the model, which is faster except for tiny
      ones.

  Returns:
    The largest difference of any output. It is relative to the output's
    largest value, where that is above 1.

  Raises:
    UserError: a difference is above `TOLERANCE`; the message names the output.
  """
  worst = 0.0
  for part in parts(task, params):
    reference = _Reference(part, compiled)
    limit = min(part.task.inputs.limit(task.config), _LONGEST)
    for length in lengths or sorted({min(16, limit), limit}):
      batch = random_batch(part, length)
      wanted = reference(batch)
      names = [name for name in wanted if name in forward.outputs]
      found = forward(batch, names)
      for name in names:
        difference = largest_difference(found[name], wanted[name], batch)
        if not difference <= TOLERANCE:
          raise UserError(
            f"{where}: the output {part.prefix}{name} differs from JAX by"
            f" {difference:.2g}, more than {TOLERANCE:g}, at {length} tokens"
          )
        worst = max(worst, difference)
  return worst


def random_batch(part: Part, length: int, rows: int = _ROWS) -> Batch:
  """Rows of random tokens: one of the full length, one of 1, others between."""
  task, config = part.task, part.task.config
  rng = np.random.default_rng(length)
  shape = (rows, _CHOICES) if isinstance(task.inputs, Choices) else (rows,)
  sizes = np.linspace(length, 1, int(np.prod(shape))).astype(int)
  places = np.arange(length)
  used = (places < sizes.reshape(*shape, 1)).astype(np.int32)
  ids = rng.integers(0, config.vocab_size, used.shape) * used
  segments = rng.integers(0, max(config.num_segments, 1), used.shape) * used
  batch = Batch.from_ids(ids, used, segments)
  targets: dict[str, np.ndarray] = {}
  if any(isinstance(x, heads.MaskedLanguageHead) for x in part.heads.values()):
    last = used.sum(-1, keepdims=True) - 1
    masks = rng.integers(0, length, (rows, _MASKS))
    targets[_POSITIONS] = np.minimum(masks, last).astype(np.int32)
  if SKIPPED in task.dummy_batch.targets:
    targets[SKIPPED] = np.minimum(sizes - 1, 1).astype(np.int32)
  return dataclasses.replace(
    batch, targets=targets, task=part.prefix.removesuffix("/")
  )


def largest_difference(
  found: np.ndarray, wanted: np.ndarray, batch: Batch
) -> float:
  """The largest difference, where an output is not of padding.

  It is relative to the largest value where that is above 1. That of arrays of
  different shapes, or with a value that is not finite, is infinite.
  """
  found, wanted = np.asarray(found), np.asarray(wanted)
  used = np.asarray(batch.sequence_ids) > 0
  if found.shape != wanted.shape or not np.isfinite(found).all():
    return float("inf")
  if wanted.shape[: used.ndim] == used.shape:
    found, wanted = found[used], wanted[used]
  scale = max(1.0, float(np.abs(wanted).max(initial=0)))
  return float(np.abs(found - wanted).max(initial=0)) / scale


class _Reference:
  """The outputs of a part in JAX, by name."""

  def __init__(self, part: Part, compiled: bool):
    self._part, self._config = part, part.task.config
    apply = module(part.task).apply
    self._apply = jax.jit(apply) if compiled else apply

  def __call__(self, batch: Batch) -> Mapping[str, np.ndarray]:
    """The outputs for a batch."""
    variables = {"params": self._part.params}
    batch = dataclasses.replace(batch, task="")
    outputs = dict(self._apply(variables, batch))
    found = {name: np.asarray(value) for name, value in outputs.items()}
    for name, target in _named(self._part).items():
      if isinstance(target, Similarity):
        rows = [{}] * len(batch.token_ids)
        made = target.predict(outputs[name], batch, rows, None)
        found["sentence_embedding"] = np.stack(made)
      if isinstance(self._part.heads[name], heads.MaskedLanguageHead):
        found[name] = found[name][..., : self._config.vocab_size]
        found["sparse_embedding"] = self._sparse(variables, batch, name)
    return found

  def _sparse(self, variables: Any, batch: Batch, name: str) -> np.ndarray:
    rows, length = batch.token_ids.shape
    everywhere = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
    batch = dataclasses.replace(batch, targets={_POSITIONS: everywhere})
    logits = np.asarray(self._apply(variables, batch)[name])
    logits = logits[..., : self._config.vocab_size]
    used = (np.asarray(batch.sequence_ids) > 0)[..., None]
    return np.log1p(np.maximum(np.where(used, logits, 0), 0).max(1))


def _named(part: Part) -> Mapping[str, Any]:
  """The targets by the names of their heads."""
  names = part.task.head_names
  return {names[name]: x for name, x in part.task.targets.items()}
