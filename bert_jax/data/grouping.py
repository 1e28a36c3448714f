"""Batches of examples of similar length, padded to a few fixed lengths."""

import collections
import functools
import itertools
import math
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from jaxtyping import Int64

from bert_jax.batch import ID_ARRAYS, Batch, map_arrays
from bert_jax.data.stream import Positioned, check_seed
from bert_jax.settings import UserError

LENGTH_BUCKETS = (16, 24, 32, 40, 48, 64, 80, 96, 128, *range(192, 513, 64))
"""The default lengths of rows; longer rows use powers of two."""

# The number of batches whose examples are sorted by length together. A larger
# pool saves padding, a smaller one keeps the order more random.
_POOL = 50


class Axes(NamedTuple):
  """How the targets of a task are padded.

  Attributes:
    per_token: names of targets whose last axis has one item per token.
    fixed: names of targets with the same shape in all examples.
    slots: names of targets whose last axis is of a number that varies.
  """

  per_token: frozenset[str] = frozenset()
  fixed: frozenset[str] = frozenset()
  slots: frozenset[str] = frozenset()


PLAIN = Axes()
"""No target is per token or fixed: each axis is padded on its own."""


def power_of_two(size: int) -> int:
  """The smallest power of two that is at least `size`."""
  return 1 << max(size - 1, 0).bit_length()


def bucket(lengths: Sequence[int], size: int) -> int:
  """The first of the ascending `lengths` that is at least `size`.

  >>> bucket((16, 32), 20), bucket((16, 32), 33)
  (32, 64)
  """
  return next((n for n in lengths if n >= size), power_of_two(size))


class Shapes:
  """Chooses batches and shapes, such that few programs are compiled at first.

  A batch takes a larger shape that was chosen before, until the padding of all
  batches of its shape has cost as much as compiling a program for it. This
  is the rule of ski rental: the cost is at most twice the least one.
  Thread-safe.

  >>> shapes = Shapes(worth=1000)
  >>> shapes.choose(32, 48), shapes.choose(32, 32), shapes.choose(32, 32)
  ((32, 48), (32, 48), (32, 32))
  """

  def __init__(self, worth: float):
    """No shape is chosen yet.

    Args:
      worth: the number of tokens, with padding, whose computation takes as
        long as compiling a program.
    """
    self._worth = worth
    self._chosen: dict[Any, set[tuple[int, int]]] = {}
    self._padding: collections.Counter = collections.Counter()
    self._lock = threading.Lock()

  def split(self, lengths: Sequence[int], size: int) -> list[int]:
    """How many examples go into each batch, such that this costs least.

    A batch costs its tokens, with padding, and a compilation, so that a few
    long examples do not share a batch with many short ones. By dynamic
    programming.

    >>> Shapes(worth=1000).split([256] * 3 + [16] * 30, 32)
    [4, 29]

    Args:
      lengths: of the examples, descending.
      size: the largest batch.
    """
    size = min(size, len(lengths))
    counts = [1 << n for n in range(size.bit_length()) if 1 << n < size]
    best: list[tuple[float, int]] = [(0, 0)]  # From an example on, reversed.
    for start in reversed(range(len(lengths))):
      length = bucket(LENGTH_BUCKETS, lengths[start])
      left = len(lengths) - start
      best.append(
        min(
          (power_of_two(n) * length + self._worth + best[left - n][0], -n)
          for n in {min(n, left) for n in (*counts, size)}
        )
      )
    found, left = [], len(lengths)
    while left:
      found.append(-best[left][1])
      left -= found[-1]
    return found

  def choose(
    self, rows: int, length: int, kind: Hashable = None
  ) -> tuple[int, int]:
    """The numbers of rows and of tokens of a row, at least those given.

    Args:
      rows: of the batch.
      length: of its rows.
      kind: batches of different kinds have different programs.
    """
    own = (rows, length)
    with self._lock:
      chosen = self._chosen.setdefault(kind, set())
      larger = [x for x in chosen if x[0] >= rows and x[1] >= length]
      best = min(larger, key=math.prod, default=own)
      self._padding[kind, own] += math.prod(best) - math.prod(own)
      if self._padding[kind, own] > self._worth:
        best = own
      chosen.add(best)
      return best


def pad(
  examples: Sequence[Batch],
  axes: Axes = PLAIN,
  rows: int | None = None,
  grow: Callable[[int], int] | None = None,
  exact: bool = False,
  only: Sequence[int] | None = None,
  slots: Callable[[int], int] | None = None,
) -> Batch:
  """Pads unbatched examples with zeros and stacks them.

  Sequence id 0 and weight 0 mark padding. Axes that are neither fixed
  nor per token are padded to the next power of two, so that few shapes are
  compiled.

  Args:
    examples: at least one.
    axes: how the targets are padded.
    rows: the number of rows, at least that of examples; None for the next
      power of two.
    grow: maps the length of the longest example to that of the batch; None for
      the next of `LENGTH_BUCKETS`.
    exact: whether to pad the other axes to the maximum of the examples instead
      of the next power of two; for axes that hardly differ.
    only: the rows to return, in this order; None for all. Their shapes are
      those of the whole batch.
    slots: maps the largest number of slots to that of the batch; None for
      what `exact` says.
  """
  rows = rows or power_of_two(len(examples))
  wanted = range(rows) if only is None else only
  other = int if exact else power_of_two
  grow = grow or functools.partial(bucket, LENGTH_BUCKETS)
  length = grow(max(example.token_ids.shape[-1] for example in examples))

  def stack(name: str, *arrays: np.ndarray) -> np.ndarray:
    shape = [max(sizes) for sizes in zip(*(array.shape for array in arrays))]
    if name in ID_ARRAYS or name in axes.per_token:
      shape = [*map(other, shape[:-1]), length]
    elif name in axes.slots:
      shape = [*map(other, shape[:-1]), (slots or other)(shape[-1])]
    elif name not in axes.fixed:
      shape = [*map(other, shape)]
    stacked = np.zeros((len(wanted), *shape), arrays[0].dtype)
    for place, row in enumerate(wanted):
      if row < len(arrays):
        array = arrays[row]
        stacked[(place, *map(slice, array.shape))] = array
    return stacked

  return map_arrays(stack, *examples)


class LengthGroupedStream(Positioned):
  """All epochs of some examples, in batches of similar length.

  An epoch is a random permutation of the examples, sorted by length within
  pools of `_POOL` batches. A batch that is not full is padded with empty rows.
  Batch `b` is a function of (seed, b) and the examples. A stream is
  thread-safe and can be pickled.

  Attributes:
    examples: unbatched.
    axes: how their targets are padded.
    lengths: the lengths of rows.
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
    """Creates the stream; batches are made on request.

    Args:
      examples: unbatched, of any lengths.
      axes: how their targets are padded.
      lengths: the lengths that rows are padded to, ascending.
      batch_size: the number of rows of a batch, over all hosts.
      seed: the seed of the order, not negative.
      start: a position from `position_after`, or None.

    Raises:
      UserError: there are no examples, or the seed is negative.
    """
    if not examples:
      raise UserError("config.data.train: there are no examples")
    check_seed(seed)
    self._arguments = (examples, axes, lengths, batch_size, seed, start)
    self.examples, self.axes, self.lengths = examples, axes, lengths
    self._seed = seed
    self._grow = functools.partial(bucket, lengths)
    self._sizes = np.array([e.token_ids.shape[-1] for e in examples])
    self._slots = _slots(examples, axes, self._grow)
    self.batch_size = batch_size
    self.batches_per_epoch = -(-len(examples) // batch_size)
    start = start or {"epoch": 0, "index": 0}
    self._first = (
      start["epoch"] * self.batches_per_epoch + start["index"] // batch_size
    )
    self._plans: dict[int, list[Int64[np.ndarray, "rows"]]] = {}
    self._lock = threading.Lock()

  def batch(self, index: int, rows: Sequence[int]) -> Batch:
    """The given rows of batch `index`, counted from the start; NumPy arrays.

    Their shapes depend on the whole batch, so they are the same on all hosts.
    """
    chosen = self._chosen(index)
    length = self._grow(int(self._sizes[chosen].max()))
    return pad(
      [self.examples[i] for i in chosen],
      self.axes,
      self.batch_size,
      self._grow,
      exact=True,
      only=rows,
      slots=lambda count: self._slots[length],
    )

  def with_examples(self, examples: Sequence[Batch], axes: Axes) -> Self:
    """The same batches of the same examples with other targets."""
    return type(self)(examples, axes, *self._arguments[2:])

  def position_after(self, batches: int) -> dict[str, int]:
    """The epoch, and the number of consumed examples of that epoch."""
    epoch, index = divmod(self._first + batches, self.batches_per_epoch)
    return {"epoch": epoch, "index": index * self.batch_size}

  def _chosen(self, index: int) -> Int64[np.ndarray, "rows"]:
    """The indices of the examples of a batch."""
    epoch, index = divmod(self._first + index, self.batches_per_epoch)
    with self._lock:
      if epoch not in self._plans:
        # Because of prefetching, two epochs may be in use.
        while len(self._plans) > 1:
          del self._plans[min(self._plans)]
        self._plans[epoch] = self._plan(epoch)
      return self._plans[epoch][index]

  def _plan(self, epoch: int) -> list[Int64[np.ndarray, "rows"]]:
    rng = np.random.default_rng([self._seed, epoch])
    order = rng.permutation(len(self.examples))
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


def _slots(
  examples: Sequence[Batch], axes: Axes, grow: Callable[[int], int]
) -> dict[int, int]:
  """For each length of rows the slots of all examples up to it.

  So the shape of a batch is a function of its length.
  """
  most: dict[int, int] = {}
  for example in examples if axes.slots else ():
    length = grow(example.token_ids.shape[-1])
    sizes = (example.targets[name].shape[-1] for name in axes.slots)
    most[length] = max(most.get(length, 1), *sizes)
  lengths = sorted(most)
  return dict(
    zip(lengths, itertools.accumulate((most[n] for n in lengths), max))
  )
