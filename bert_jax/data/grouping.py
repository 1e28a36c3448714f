"""Batches of examples of about one length, in a fixed set of shapes."""

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Int64

from bert_jax.settings import UserError
from bert_jax.types import Batch

LENGTH_BUCKETS = (
  16,
  24,
  32,
  40,
  48,
  64,
  80,
  96,
  128,
  192,
  256,
  320,
  384,
  448,
  512,
)
"""Row lengths, if not told otherwise; beyond, powers of two."""

# Batches whose examples are sorted by length together. More save padding,
# fewer leave the order more random.
_POOL = 50
_IDS = ("token_ids", "segment_ids", "position_ids", "sequence_ids")


class Axes(NamedTuple):
  """How the targets of a task grow when examples are padded together.

  Attributes:
    per_token: names of targets whose last axis is that of the tokens.
    fixed: names of targets whose axes are of one size in all examples.
  """

  per_token: frozenset[str] = frozenset()
  fixed: frozenset[str] = frozenset()


PLAIN = Axes()
"""Every axis of every target grows by itself."""


def power_of_two(size: int) -> int:
  """The least power of two that is not less."""
  return 1 << max(size - 1, 0).bit_length()


def bucket(lengths: Sequence[int], size: int) -> int:
  """The least of `lengths`, which rise, that is not less than `size`."""
  return next((n for n in lengths if n >= size), power_of_two(size))


def pad(
  examples: Sequence[Batch],
  axes: Axes = PLAIN,
  rows: int | None = None,
  grow: Callable[[int], int] | None = None,
  exact: bool = False,
) -> Batch:
  """Stacks unbatched examples of any lengths into one batch.

  Axes grow with zeros, those that are neither fixed nor of tokens to the
  next power of two, so that few shapes are compiled. Sequence id 0 and weight
  0 make what is added count nothing.

  Args:
    examples: at least one.
    axes: of the targets.
    rows: of the batch; None for the next power of two.
    grow: from the longest example to the length of the batch; None for the
      next of `LENGTH_BUCKETS`.
    exact: whether the axes that are not of tokens stay as large as the
      largest needs; for examples that hardly differ in these.
  """
  rows = rows or power_of_two(len(examples))
  other = int if exact else power_of_two
  grow = grow or functools.partial(bucket, LENGTH_BUCKETS)
  length = grow(max(example.token_ids.shape[-1] for example in examples))

  def stack(path: tuple, *arrays: np.ndarray) -> np.ndarray:
    name = getattr(path[-1], "name", getattr(path[-1], "key", None))
    shape = [max(sizes) for sizes in zip(*(array.shape for array in arrays))]
    if name in _IDS or name in axes.per_token:
      shape = [*map(other, shape[:-1]), length]
    elif name not in axes.fixed:
      shape = [*map(other, shape)]
    stacked = np.zeros((rows, *shape), arrays[0].dtype)
    for row, array in enumerate(arrays):
      stacked[(row, *map(slice, array.shape))] = array
    return stacked

  return jax.tree_util.tree_map_with_path(stack, *examples)


class LengthGroupedStream:
  """All epochs of some examples, in batches of about one length.

  An epoch is a random order of the examples, sorted by length within pools of
  some batches; its last batch may be filled up with empty rows. Batch `b` is
  a function of (seed, b) and the examples. Threads may share a stream, and it
  pickles.

  Attributes:
    batch_size: rows of a batch over all hosts.
  """

  def __init__(
    self,
    examples: Sequence[Batch],
    axes: Axes,
    lengths: Sequence[int],
    batch_size: int,
    seed: int,
    start: Mapping[str, int] | None = None,
  ):
    """Makes no batch yet.

    Args:
      examples: unbatched, of any lengths.
      axes: of their targets.
      lengths: those that batches may have, rising.
      batch_size: rows of a batch over all hosts.
      seed: of the order, not negative.
      start: what `position_after` gave, or None for the beginning.

    Raises:
      UserError: there are no examples, or the seed is negative.
    """
    if not examples:
      raise UserError("config.data.train: there are no examples")
    if not 0 <= seed < 1 << 63:
      raise UserError(f"config.seed: expected 0 to 2**63 - 1, got {seed}")
    self._arguments = (examples, axes, lengths, batch_size, seed, start)
    self._examples, self._axes, self._seed = examples, axes, seed
    self._grow = functools.partial(bucket, lengths)
    self._sizes = np.array([e.token_ids.shape[-1] for e in examples])
    self.batch_size = batch_size
    self.batches_per_epoch = -(-len(examples) // batch_size)
    start = start or {"epoch": 0, "index": 0}
    self._first = (
      start["epoch"] * self.batches_per_epoch + start["index"] // batch_size
    )
    self._plans: dict[int, list[Int64[np.ndarray, "rows"]]] = {}
    self._lock = threading.Lock()

  def __reduce__(self) -> tuple[object, ...]:
    return LengthGroupedStream, self._arguments

  def batch(self, index: int, rows: Sequence[int]) -> Batch:
    """Some rows of batch `index`, counted from the start; NumPy arrays."""
    chosen = self._chosen(index)
    length = self._grow(int(self._sizes[chosen].max()))
    # All of it, so that every host gives its rows the same shape.
    whole = pad(
      [self._examples[i] for i in chosen],
      self._axes,
      self.batch_size,
      lambda _: length,
      exact=True,
    )
    return jax.tree.map(lambda x: x[np.asarray(rows)], whole)

  def position_after(self, batches: int) -> dict[str, int]:
    """Where a new stream continues once `batches` batches are consumed.

    Returns:
      `{"epoch": epoch, "index": examples of it that are consumed}`.
    """
    epoch, index = divmod(self._first + batches, self.batches_per_epoch)
    return {"epoch": epoch, "index": index * self.batch_size}

  def _chosen(self, index: int) -> Int64[np.ndarray, "rows"]:
    """Which examples are in a batch."""
    epoch, index = divmod(self._first + index, self.batches_per_epoch)
    with self._lock:
      if epoch not in self._plans:
        # Batches are drawn ahead, so two epochs may be under way.
        while len(self._plans) > 1:
          del self._plans[min(self._plans)]
        self._plans[epoch] = self._plan(epoch)
      return self._plans[epoch][index]

  def _plan(self, epoch: int) -> list[Int64[np.ndarray, "rows"]]:
    rng = np.random.default_rng([self._seed, epoch])
    order = rng.permutation(len(self._examples))
    pool = _POOL * self.batch_size
    batches = []
    for begin in range(0, len(order), pool):
      part = order[begin : begin + pool]
      part = part[np.argsort(-self._sizes[part], kind="stable")]
      batches += [
        part[i : i + self.batch_size]
        for i in range(0, len(part), self.batch_size)
      ]
    return [batches[i] for i in rng.permutation(len(batches))]
