"""Which sequences share a row, from their lengths alone.

Histogram packing of Krell, Kosec, Perez and Fitzgibbon (2021,
arXiv:2107.02027): as sequences of one length are all alike, and so are rows
with the same lengths, it is not sequences that are placed but numbers of them,
so that the work depends on how many lengths there are, not on how many
sequences. There rows are filled by best fit, from the longest sequences to the
shortest. But where a row may have only so many sequences, that leaves short
ones for the end, which then make rows that are hardly filled. So here rows
first take some of the shortest ones, as many as a few tries show to be best.
"""

import bisect
import collections
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int64, UInt32

from bert_jax.data import counter_rng

# How many sequences less than the average a row has before best fit fills it;
# with infinitely many less it is best fit alone.
_SPARED = (math.inf, 2, 1.5, 1.25, 1, 0.75, 0.5, 0.25, 0)


class Packing(NamedTuple):
  """The rows of an epoch.

  Attributes:
    sequences: which sequences make the rows, row after row.
    starts: where each row begins in `sequences`, and the last one ends.
    efficiency: the fraction of the rows' positions that hold tokens.
  """

  sequences: UInt32[np.ndarray, "sequences"]
  starts: UInt32[np.ndarray, "rows+1"]
  efficiency: float


class _Rows(NamedTuple):
  """Rows that are alike: so many with sequences of just these lengths."""

  count: int
  lengths: tuple[int, ...]


def pack(
  lengths: Int[np.ndarray, "sequences"],
  row_length: int,
  max_sequences: int,
  rng: np.random.Generator,
) -> Packing:
  """Packs every sequence into one of as few rows as are found.

  Rows come in random order, and which of the sequences of one length share
  a row with which others is random too. For each sequence it takes about 20
  bytes of memory, of which 6 stay.

  Args:
    lengths: tokens in each sequence, from 1 to `row_length`; fewer than 2**32
      sequences.
    row_length: positions of a row.
    max_sequences: the most sequences of a row.
    rng: draws the order.
  """
  assert max_sequences >= 1
  counts = np.bincount(lengths, minlength=row_length + 1)
  assert len(counts) == row_length + 1 and not counts[0]
  tries = [
    _fill(counts.tolist(), row_length, max_sequences, spared)
    for spared in _SPARED
  ]
  groups = min(tries, key=lambda rows: sum(group.count for group in rows))

  # By length, and those of one length in random order.
  pool = rng.permutation(np.arange(len(lengths), dtype=np.uint32))
  pool = pool[np.argsort(lengths[pool], kind="stable")]
  begins = np.cumsum(counts) - counts
  sequences, sizes = [pool[:0]], [np.zeros(0, np.int64)]
  for group in groups:
    taken = []
    for length in group.lengths:
      taken.append(pool[begins[length] : begins[length] + group.count])
      begins[length] += group.count
    sequences.append(np.stack(taken, axis=1).ravel())
    sizes.append(np.full(group.count, len(group.lengths)))
  sequences, sizes = np.concatenate(sequences), np.concatenate(sizes)
  sequences, sizes = _shuffled(sequences, sizes, rng)
  starts = np.zeros(len(sizes) + 1, np.uint32)
  starts[1:] = np.cumsum(sizes)
  positions = max(len(sizes), 1) * row_length
  return Packing(sequences, starts, float(lengths.sum()) / positions)


def _fill(
  left: list[int], row_length: int, max_sequences: int, spared: float
) -> list[_Rows]:
  """Rows that take all sequences.

  Args:
    left: how many there are of each length, from 0; it is used up.
    row_length: positions of a row.
    max_sequences: the most sequences of a row.
    spared: see `_SPARED`.
  """
  lengths = [length for length, count in enumerate(left) if count]
  sequences, tokens = sum(left), sum(n * left[n] for n in lengths)
  groups = []
  while lengths:
    row, room = [lengths[-1]], row_length - lengths[-1]
    taken = collections.Counter(row)
    # The shortest, until the row has as many as rows must have in the mean.
    wanted = min(max_sequences, sequences * row_length / tokens - spared)
    at = 0
    while len(row) < wanted - 1 and at < len(lengths) and lengths[at] <= room:
      if taken[lengths[at]] < left[lengths[at]]:
        row.append(lengths[at])
        taken[lengths[at]] += 1
        room -= lengths[at]
      else:
        at += 1
    # Then the longest that fit.
    at = bisect.bisect_right(lengths, room)
    while len(row) < max_sequences and at:
      if taken[lengths[at - 1]] < left[lengths[at - 1]]:
        row.append(lengths[at - 1])
        taken[lengths[at - 1]] += 1
        room -= lengths[at - 1]
      else:
        at -= 1
      at = bisect.bisect_right(lengths, room, hi=at)
    count = min(left[length] // times for length, times in taken.items())
    groups.append(_Rows(count, tuple(row)))
    sequences -= count * len(row)
    tokens -= count * (row_length - room)
    for length, times in taken.items():
      left[length] -= count * times
      if not left[length]:
        lengths.remove(length)
  return groups


def _shuffled(
  sequences: UInt32[np.ndarray, "sequences"],
  sizes: Int64[np.ndarray, "rows"],
  rng: np.random.Generator,
) -> tuple[UInt32[np.ndarray, "sequences"], Int64[np.ndarray, "rows"]]:
  """Rows of several sizes, end to end, in random order."""
  order = rng.permutation(len(sizes))
  begins = (np.cumsum(sizes) - sizes)[order]
  sizes = sizes[order]
  places = np.repeat(begins, sizes) + counter_rng.index_in_group(sizes)
  return sequences[places], sizes
