"""All epochs of a data set as one shuffled random-access sequence."""

import bisect
import functools
import itertools
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
from jaxtyping import Int64

from bert_jax.batch import Batch, map_arrays
from bert_jax.settings import UserError

# Up to this length the permutation of an epoch is stored. Grain computes the
# items of a permutation without memory, but slowly for short ones: 15 ms per
# index for two examples.
_SMALL = 1 << 16

# The number of rows made together: large enough to amortise NumPy's overhead,
# small enough for the processor's cache.
_AT_ONCE = 256


class Examples(Protocol):
  """The examples of each epoch, by random access; one per row.

  Must be thread-safe, and picklable for worker processes.
  """

  def epoch_length(self, epoch: int) -> int:
    """The number of examples of an epoch."""

  def batch(self, epoch: int, indices: Sequence[int]) -> Batch:
    """A batch of the given examples as NumPy arrays; deterministic."""


class BatchStream(Protocol):
  """Endless batches, by random access; thread-safe and picklable.

  Attributes:
    batch_size: the number of rows of a batch, over all hosts.
    batches_per_epoch: about the number of batches of one epoch.
  """

  batch_size: int
  batches_per_epoch: int

  def batch(self, index: int, rows: Sequence[int]) -> Batch:
    """The given rows of a batch as NumPy arrays; deterministic."""

  def at(self, position: Mapping[str, Any]) -> Self:
    """The stream of the same data that starts at a position."""

  def position_after(self, batches: int) -> Mapping[str, Any]:
    """The position after some batches, for `at`; values that JSON can hold."""


class _Epoch(NamedTuple):
  number: int
  begin: int  # The first position in the stream.
  end: int  # The position after the last one.
  seed: int  # The seed of the order.


class Positioned:
  """The base of streams that are pickled, and moved, as their arguments.

  The last argument is the position of the start; None for the beginning.
  """

  _arguments: tuple[Any, ...]

  def __reduce__(self) -> tuple[object, ...]:
    return type(self), self._arguments

  def at(self, position: Mapping[str, Any]) -> Self:
    """The stream of the same data that starts at a position."""
    return type(self)(*self._arguments[:-1], position)


def check_seed(seed: int) -> None:
  """Raises a `UserError` for a seed that is out of range."""
  if not 0 <= seed < 1 << 63:
    raise UserError(f"config.seed: expected 0 to 2**63 - 1, got {seed}")


class Stream(Positioned):
  """The concatenation of all epochs, each shuffled.

  Batch b holds the positions `b * batch_size` to `(b + 1) * batch_size`, so a
  batch may contain examples of two epochs, and repeated ones if the data are
  fewer than a batch. A stream is thread-safe and can be pickled.
  """

  def __init__(
    self,
    examples: Examples,
    batch_size: int,
    seed: int,
    start: Mapping[str, int] | None = None,
  ):
    """Creates the stream; batches are made on request.

    Raises:
      UserError: the batch size or the seed is out of range.
    """
    if batch_size < 1:
      raise UserError(
        f"config.batch_size: expected at least 1, got {batch_size}"
      )
    check_seed(seed)
    self._arguments = (examples, batch_size, seed, start)
    self._examples = examples
    self.batch_size = batch_size
    self._seed = seed
    start = start or {"epoch": 0, "index": 0}
    self._first_epoch = start["epoch"]
    self._offset = start["index"]
    self._epochs: list[_Epoch] = []
    self._lock = threading.Lock()

  @property
  def batches_per_epoch(self) -> int:
    """The number of batches that contain examples of the first epoch."""
    length = self._examples.epoch_length(self._first_epoch)
    return -(-length // self.batch_size)

  def batch(self, index: int, rows: Sequence[int]) -> Batch:
    """The given rows of batch `index`, counted from the start."""
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
    """The epoch, and the number of consumed examples of that epoch."""
    position = batches * self.batch_size
    epoch = self._epoch_at(position)
    index = self._offset + position - epoch.begin
    return {"epoch": epoch.number, "index": index}

  def _place(self, position: int) -> tuple[int, int]:
    """The epoch of a position, and the index of its example."""
    epoch = self._epoch_at(position)
    index = _shuffled(
      self._offset + position - epoch.begin, epoch.end - epoch.begin, epoch.seed
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


def draw(count: int, limit: int | None) -> Int64[np.ndarray, "drawn"]:
  """The ascending indices of a sample of `count` examples to evaluate on.

  It is a function of the arguments alone, so that all evaluations, hosts and
  runs have the same one. Without a limit, or below it, these are all indices.
  """
  if limit is None or limit >= count:
    return np.arange(count)
  rng = np.random.default_rng(0)
  return np.sort(rng.choice(count, max(limit, 0), replace=False, shuffle=False))


def stack(rows: Sequence[Batch]) -> Batch:
  """Stacks unbatched examples of the same shapes into a batch."""
  return map_arrays(lambda _, *arrays: np.stack(arrays), *rows)


def concatenate(parts: Sequence[Batch]) -> Batch:
  """Concatenates batches along the rows."""
  return map_arrays(lambda _, *arrays: np.concatenate(arrays), *parts)


def _shuffled(index: int, length: int, seed: int) -> int:
  """The item `index` of a pseudorandom permutation of `range(length)`."""
  if length <= _SMALL:
    return int(_permutation(length, seed)[index])
  import grain  # Slow to import.

  return grain.experimental.index_shuffle(
    index, max_index=length - 1, seed=seed, rounds=4
  )


@functools.lru_cache(maxsize=4)
def _permutation(length: int, seed: int) -> Int64[np.ndarray, "length"]:
  return np.random.default_rng(seed).permutation(length)
