"""Random numbers without a state: functions of a key and a position.

So any one of them can be had alone, and many at once. The generator is
SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators"), at a chosen position.
"""

import numpy as np
from jaxtyping import Float, Int, Int64, UInt64

# `heads` tosses so many coins from one number; and the numbers of a position
# are so many, before the next position's begin.
_COINS = 64
_NUMBERS = 1 << 16


def key(*entropy: int) -> UInt64[np.ndarray, "1"]:
  """A key for what the numbers are drawn for; all are at least 0."""
  return np.random.SeedSequence(entropy).generate_state(1, np.uint64)


def bits(
  key: UInt64[np.ndarray, "1"], positions: Int[np.ndarray, "n"]
) -> UInt64[np.ndarray, "n"]:
  """64 random bits for each position."""
  z = key + positions.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
  z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return z ^ (z >> np.uint64(31))


def uniform(
  key: UInt64[np.ndarray, "1"], positions: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
  """A number in [0, 1) for each position."""
  return (bits(key, positions) >> np.uint64(11)) * 2.0**-53


def heads(
  key: UInt64[np.ndarray, "1"],
  positions: Int[np.ndarray, "n"],
  counts: Int[np.ndarray, "n"],
) -> Int64[np.ndarray, "n"]:
  """How many of `counts` coins show heads, for each position."""
  numbers = -(-counts // _COINS)
  owner = np.repeat(np.arange(len(counts)), numbers)
  number = index_within(numbers)
  drawn = bits(key, positions[owner] * _NUMBERS + number)
  unused = np.maximum(_COINS * (number + 1) - counts[owner], 0)
  drawn >>= unused.astype(np.uint64)
  found = np.bincount(owner, np.bitwise_count(drawn), len(counts))
  return found.astype(np.int64)


def index_within(
  counts: Int[np.ndarray, "groups"],
) -> Int64[np.ndarray, "items"]:
  """The index of each item within its group, for groups laid end to end.

  >>> index_within(np.array([2, 3])).tolist()
  [0, 1, 0, 1, 2]
  """
  counts = counts.astype(np.int64)
  return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
