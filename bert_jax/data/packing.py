"""Which sequences share a row, from their lengths alone.

Histogram packing of Krell, Kosec, Perez and Fitzgibbon (2021,
arXiv:2107.02027), in its form of longest-pack-first, which is best fit: from
the longest sequences to the shortest, each goes to the fullest row that it
still fits. As sequences of one length are all alike, and so are rows with
the same lengths, it is not sequences that are placed but numbers of them: the
work depends on how many lengths there are, not on how many sequences.
"""

import bisect
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int64, UInt32


class Packing(NamedTuple):
  """The rows of an epoch.

  Attributes:
    sequences: which sequences make the rows, row after row.
    starts: where each row begins in `sequences`, and the last one ends.
    fill: the share of the rows' positions that hold tokens.
  """

  sequences: UInt32[np.ndarray, "sequences"]
  starts: UInt32[np.ndarray, "rows+1"]
  fill: float


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
  """Packs every sequence into one of as few rows as best fit finds.

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
  groups = _best_fit(counts, row_length, max_sequences)

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


def _best_fit(
  counts: Int[np.ndarray, "lengths"], row_length: int, max_sequences: int
) -> list[_Rows]:
  """Rows that take all sequences, given how many there are of each length."""
  # Rows with room for more, and how much: the same, ascending.
  rooms: list[int] = []
  with_room: dict[int, list[_Rows]] = {}
  full: list[_Rows] = []

  def keep(rows: _Rows, room: int) -> None:
    if not room or len(rows.lengths) == max_sequences:
      full.append(rows)
      return
    if room not in with_room:
      bisect.insort(rooms, room)
      with_room[room] = []
    with_room[room].append(rows)

  for length in np.flatnonzero(counts)[::-1].tolist():
    left = int(counts[length])
    while left and (at := bisect.bisect_left(rooms, length)) < len(rooms):
      room = rooms[at]
      rows = with_room[room].pop()
      if not with_room[room]:
        del with_room[room], rooms[at]
      count = min(left, rows.count)
      left -= count
      if count < rows.count:
        keep(_Rows(rows.count - count, rows.lengths), room)
      keep(_Rows(count, (*rows.lengths, length)), room - length)
    # No row has room. What opens a new one is followed by its like.
    most = min(row_length // length, max_sequences)
    for count, size in ((left // most, most), (1, left % most)):
      if count and size:
        keep(_Rows(count, (length,) * size), row_length - size * length)
  return full + [rows for found in with_room.values() for rows in found]


def _shuffled(
  sequences: UInt32[np.ndarray, "sequences"],
  sizes: Int64[np.ndarray, "rows"],
  rng: np.random.Generator,
) -> tuple[UInt32[np.ndarray, "sequences"], Int64[np.ndarray, "rows"]]:
  """Rows of several sizes, end to end, in random order."""
  order = rng.permutation(len(sizes))
  begins = (np.cumsum(sizes) - sizes)[order]
  sizes = sizes[order]
  places = np.arange(len(sequences))
  places += np.repeat(begins - (np.cumsum(sizes) - sizes), sizes)
  return sequences[places], sizes
