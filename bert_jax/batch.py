"""The shapes of data that every folder of the package shares, without JAX.

`bert_jax.types` makes a `Batch` a tree of JAX's; import that to use one in JAX.
"""

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy.typing import ArrayLike

if TYPE_CHECKING:
  from jax import Array
else:
  # JAX is slow to import, and engines other than JAX's do without.
  Array = Any

__all__ = [
  "ID_ARRAYS",
  "Array",
  "Batch",
  "Mean",
  "Parameters",
  "add_means",
  "map_arrays",
]

Parameters = Mapping[str, Any]
"""A nested dict of arrays, layers unrolled as `layer_0`, `layer_1`, ..."""
ID_ARRAYS = (
  "token_ids",
  "segment_ids",
  "position_ids",
  "sequence_ids",
  "stage_ids",
)
"""The arrays of a `Batch` that have an entry for each token."""


@dataclasses.dataclass(frozen=True, eq=False)
class Batch:
  """The model's input and the arrays that its targets learn from.

  The id arrays are [batch, length], or [batch, texts, length] where a row has
  several texts (choices, pairs to compare). A single example is the same
  pytree without the batch axis.

  Attributes:
    token_ids: token ids with special tokens; padding is 0.
    segment_ids: 0 for the first text of a pair, 1 for the second.
    position_ids: the position of each token in its own sequence.
    sequence_ids: the packed sequence of a token, from 1; 0 is padding. Tokens
      attend to tokens of the same sequence only.
    stage_ids: the stage of a token in its sequence; None for stage 0
      everywhere. Tokens attend to tokens of their own stage and of earlier
      ones: with 0 everywhere the encoder is bidirectional, with 0, 1, 2 ... it
      is causal, and with 0 for a source and 1, 2 ... for a target it is a
      prefix language model (UniLM: Dong et al. 2019, arXiv:1905.03197). Stage
      -n marks a masked copy of the token of stage n, as in pseudo-masked
      language models (UniLMv2: Bao et al. 2020, arXiv:2002.12804): it attends
      to the stages before n and to itself, and no other token attends to it.
    targets: arrays by `TARGET/ARRAY`, such as `label/labels`; each class in
      `tasks.targets` documents its own.
    task: in multi-task training, the name of the task that the batch is of;
      static, so each task has its own compiled program.
  """

  token_ids: Int[Array, "*rows length"]
  segment_ids: Int[Array, "*rows length"]
  position_ids: Int[Array, "*rows length"]
  sequence_ids: Int[Array, "*rows length"]
  targets: Mapping[str, Shaped[Array, "..."]] = dataclasses.field(
    default_factory=dict
  )
  task: str = dataclasses.field(default="", metadata={"static": True})
  stage_ids: Int[Array, "*rows length"] | None = None

  @property
  def structure(self) -> Hashable:
    """The task and the names of arrays; batches of one structure stack."""
    names = sorted(self.targets)
    if self.stage_ids is not None:
      names.append("stage_ids")
    return self.task, *names

  @classmethod
  def from_ids(
    cls,
    ids: ArrayLike,
    mask: ArrayLike | None = None,
    segments: ArrayLike | None = None,
  ) -> Self:
    """A batch of plain arrays, as tokenizers of other libraries return them.

    >>> Batch.from_ids([[101, 7592, 102, 0]], [[1, 1, 1, 0]])

    Args:
      ids: token ids, [*rows, length].
      mask: the attention mask, 1 for tokens and 0 for padding, of the same
        shape; None if there is no padding.
      segments: 0 or 1 for the two texts of a pair; None for all 0.

    Raises:
      ValueError: the shapes differ, or ids are no integers.
    """
    ids = np.asarray(ids)
    if ids.ndim < 1 or not np.issubdtype(ids.dtype, np.integer):
      raise ValueError(
        f"ids: expected integers [*rows, length], got {ids.dtype} of shape"
        f" {ids.shape}"
      )
    mask = np.asarray(np.ones_like(ids) if mask is None else mask)
    segments = np.asarray(np.zeros_like(ids) if segments is None else segments)
    for name, given in (("mask", mask), ("segments", segments)):
      if given.shape != ids.shape:
        raise ValueError(
          f"{name}: expected the shape of ids, {ids.shape}, got {given.shape}"
        )
    used = (mask > 0).astype(np.int32)
    return cls(
      token_ids=ids.astype(np.int32),
      segment_ids=segments.astype(np.int32),
      position_ids=np.maximum(np.cumsum(used, axis=-1, dtype=np.int32) - 1, 0),
      sequence_ids=used,
    )


def map_arrays(
  function: Callable[..., Any], batch: Batch, *others: Batch
) -> Batch:
  """A batch of what a function makes of each array.

  Args:
    function: takes the name of an array, such as `token_ids` or `label/labels`,
      and the arrays of this name of all batches.
    batch: the first of them.
    *others: further ones of the same structure.

  Raises:
    ValueError: the structures differ.
  """
  for other in others:
    if other.structure != batch.structure:
      raise ValueError(
        f"expected batches of one structure, got {batch.structure} and"
        f" {other.structure}"
      )
  ids = {
    name: function(
      name, getattr(batch, name), *(getattr(x, name) for x in others)
    )
    for name in ID_ARRAYS
    if getattr(batch, name) is not None
  }
  targets = {
    name: function(name, array, *(other.targets[name] for other in others))
    for name, array in batch.targets.items()
  }
  return Batch(**ids, targets=targets, task=batch.task)


class Mean(NamedTuple):
  """A mean that is not yet divided: a weighted sum and its weight.

  Sums and weights add up over micro-batches, devices and hosts, and are
  divided once, at the end; so any split of a batch gives the same number.
  """

  total: Float[Array, ""]
  weight: Float[Array, ""]

  def value(self) -> Float[Array, ""]:
    """The mean, 0 where the weight is 0."""
    import jax.numpy as jnp

    return self.total / jnp.maximum(self.weight, 1e-9)


def add_means(means: Iterator[Mapping[str, Mean]]) -> dict[str, Mean]:
  """Adds up the named means of several batches."""
  totals: dict[str, Mean] = {}
  for named in means:
    for name, mean in named.items():
      old = totals.get(name, Mean(0.0, 0.0))
      totals[name] = Mean(old.total + mean.total, old.weight + mean.weight)
  return totals
