"""All epochs of a data set end to end, as one random-access sequence."""

import bisect
import functools
import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import grain
import jax
import numpy as np
from jaxtyping import Int64

from bert_jax.settings import UserError
from bert_jax.types import Batch

# Up to here an epoch's order is kept as an array. Grain computes an order in
# no memory, but the slower the shorter: 15 ms an index for two examples.
_SMALL = 1 << 16

# So many rows are made at once: enough to spread NumPy's overhead, few enough
# to stay in the cache.
_AT_ONCE = 256


class Examples(Protocol):
  """The examples of each epoch, by random access; each makes a row.

  Threads share it; for worker processes it must pickle.
  """

  def epoch_length(self, epoch: int) -> int:
    """How many examples the epoch has."""

  def batch(self, epoch: int, indices: Sequence[int]) -> Batch:
    """Some of them as NumPy arrays, each the same whenever asked for."""


class BatchStream(Protocol):
  """Batches without end, by random access; threads share it, and it pickles.

  Attributes:
    batch_size: rows of a batch over all hosts.
    batches_per_epoch: about how many batches show every example once.
  """

  batch_size: int
  batches_per_epoch: int

  def batch(self, index: int, rows: Sequence[int]) -> Batch:
    """Some rows of a batch, the same whenever asked for; NumPy arrays."""

  def position_after(self, batches: int) -> Mapping[str, Any]:
    """Where a new one goes on once so many batches are consumed, for JSON."""


class _Epoch(NamedTuple):
  number: int
  begin: int  # positions in the stream, half-open
  end: int
  seed: int  # of the order


class Stream:
  """All epochs end to end, each in its own random order.

  Global batch b is `stream[b * batch_size : (b + 1) * batch_size]`: a batch
  may straddle epochs, and where a corpus is smaller than a batch it repeats.
  Threads may share a stream.

  Attributes:
    batch_size: rows of a batch over all hosts.
  """

  def __init__(
    self,
    examples: Examples,
    batch_size: int,
    seed: int,
    start: Mapping[str, int] | None = None,
  ):
    """Makes no example yet.

    Args:
      examples: what to draw from.
      batch_size: rows of a batch over all hosts.
      seed: of the order, not negative.
      start: where position 0 is: what `position_after` gave, or None for the
        beginning.

    Raises:
      UserError: the batch size or the seed is out of range.
    """
    if batch_size < 1:
      raise UserError(
        f"config.batch_size: expected at least 1, got {batch_size}"
      )
    if not 0 <= seed < 1 << 63:
      raise UserError(f"config.seed: expected 0 to 2**63 - 1, got {seed}")
    self._arguments = (examples, batch_size, seed, start)
    self._examples = examples
    self.batch_size = batch_size
    self._seed = seed
    start = start or {"epoch": 0, "index": 0}
    self._first_epoch = start["epoch"]
    self._offset = start["index"]
    self._epochs: list[_Epoch] = []
    self._lock = threading.Lock()

  def __reduce__(self) -> tuple[object, ...]:
    return Stream, self._arguments

  def __getitem__(self, position: int) -> Batch:
    """The unbatched example at `position`, counted from the start."""
    epoch, index = self._place(position)
    return jax.tree.map(lambda x: x[0], self._examples.batch(epoch, [index]))

  @property
  def batches_per_epoch(self) -> int:
    """How many batches the first epoch fills, the last one perhaps in part."""
    length = self._examples.epoch_length(self._first_epoch)
    return -(-length // self.batch_size)

  def batch(self, index: int, rows: Sequence[int]) -> Batch:
    """Some rows of batch `index`, counted from the start."""
    begin = index * self.batch_size
    places = [self._place(begin + row) for row in rows]
    parts = []
    for epoch, found in itertools.groupby(places, lambda place: place[0]):
      indices = [index for _, index in found]
      for at in range(0, len(indices), _AT_ONCE):
        chunk = indices[at : at + _AT_ONCE]
        parts.append(self._examples.batch(epoch, chunk))
    return concatenate(parts)

  def position_after(self, batches: int) -> dict[str, int]:
    """Where a new stream continues once `batches` batches are consumed.

    Returns:
      `{"epoch": epoch, "index": examples of it that are consumed}`.
    """
    position = batches * self.batch_size
    epoch = self._epoch_at(position)
    index = self._offset + position - epoch.begin
    return {"epoch": epoch.number, "index": index}

  def _place(self, position: int) -> tuple[int, int]:
    """The epoch of a position, and the example that is shown there."""
    epoch = self._epoch_at(position)
    index = _shuffled(
      self._offset + position - epoch.begin,
      epoch.end - epoch.begin,
      epoch.seed,
    )
    return epoch.number, index

  def _epoch_at(self, position: int) -> _Epoch:
    wanted = self._offset + position
    with self._lock:
      while not self._epochs or self._epochs[-1].end <= wanted:
        begin = self._epochs[-1].end if self._epochs else 0
        number = self._first_epoch + len(self._epochs)
        length = self._examples.epoch_length(number)
        if length < 1:
          raise UserError(f"config.data: epoch {number} has no examples")
        (seed,) = np.random.SeedSequence([self._seed, number]).generate_state(1)
        self._epochs.append(_Epoch(number, begin, begin + length, int(seed)))
      found = bisect.bisect(self._epochs, wanted, key=lambda e: e.begin) - 1
      return self._epochs[found]


def stack(rows: Sequence[Batch]) -> Batch:
  """A batch of examples of one shape."""
  return jax.tree.map(lambda *leaves: np.stack(leaves), *rows)


def concatenate(parts: Sequence[Batch]) -> Batch:
  """One batch of the rows of several."""
  return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def _shuffled(index: int, length: int, seed: int) -> int:
  """Where a permutation of `range(length)` takes `index`."""
  if length <= _SMALL:
    return int(_permutation(length, seed)[index])
  return grain.experimental.index_shuffle(
    index, max_index=length - 1, seed=seed, rounds=4
  )


@functools.lru_cache(maxsize=4)
def _permutation(length: int, seed: int) -> Int64[np.ndarray, "length"]:
  return np.random.default_rng(seed).permutation(length)
