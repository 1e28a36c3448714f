"""Packing: assigns sequences to rows by their lengths.

The algorithm is the histogram packing of Krell, Kosec, Perez and Fitzgibbon
(2021, arXiv:2107.02027). It places counts of sequences of equal length, so its
cost depends on the number of different lengths, not on that of sequences. The
paper fills rows by best fit, from the longest sequences to the shortest. With
a limit of sequences per row this leaves many short sequences for the end, in
rows that are mostly padding. Here rows first take some of the shortest
sequences; several amounts are tried and the best is used.
"""

import bisect
import collections
import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int64, UInt32

from bert_jax.data import counter_rng

# The amounts to try: how many fewer sequences than the average a row takes
# before best fit fills it. Infinity is best fit alone.
_SPARED = (math.inf, 2, 1.5, 1.25, 1, 0.75, 0.5, 0.25, 0)


class Packing(NamedTuple):
  """The rows of an epoch.

  `starts` has the start of each row in `sequences`, and the end of the last
  one. `efficiency` is the fraction of positions that are not padding.
  """

  sequences: UInt32[np.ndarray, "sequences"]
  starts: UInt32[np.ndarray, "rows+1"]
  efficiency: float


class _Rows(NamedTuple):
  """A number of rows whose sequences have the same lengths."""

  count: int
  lengths: tuple[int, ...]


def pack(
  lengths: Int[np.ndarray, "sequences"],
  row_length: int,
  max_sequences: int,
  rng: np.random.Generator,
) -> Packing:
  """Packs all sequences into as few rows as the heuristic finds.

  Rows are in random order, and sequences of equal length are assigned to their
  places at random. Takes about 20 bytes of memory per sequence; the result
  takes 6.

  Lengths are from 1 to `row_length`; fewer than 2**32 sequences.
  """
  assert max_sequences >= 1
  counts = np.bincount(lengths, minlength=row_length + 1)
  assert len(counts) == row_length + 1 and not counts[0]
  tries = [
    _fill(counts.tolist(), row_length, max_sequences, spared)
    for spared in _SPARED
  ]
  groups = min(tries, key=lambda rows: sum(group.count for group in rows))

  # Sorted by length; sequences of equal length in random order.
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
  """Fills rows with `left[n]` sequences of each length n; modifies `left`."""
  lengths = [length for length, count in enumerate(left) if count]
  sequences, tokens = sum(left), sum(n * left[n] for n in lengths)
  groups = []
  while lengths:
    row, room = [lengths[-1]], row_length - lengths[-1]
    taken = collections.Counter(row)
    # The shortest sequences, up to the mean number of sequences per row.
    wanted = min(max_sequences, sequences * row_length / tokens - spared)
    at = 0
    while len(row) < wanted - 1 and at < len(lengths) and lengths[at] <= room:
      if taken[lengths[at]] < left[lengths[at]]:
        row.append(lengths[at])
        taken[lengths[at]] += 1
        room -= lengths[at]
      else:
        at += 1
    # Then the longest sequences that fit.
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
  """Shuffles concatenated rows of several sizes."""
  order = rng.permutation(len(sizes))
  begins = (np.cumsum(sizes) - sizes)[order]
  sizes = sizes[order]
  places = np.repeat(begins, sizes) + counter_rng.index_in_group(sizes)
  return sequences[places], sizes
