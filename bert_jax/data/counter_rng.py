"""Counter-based random numbers: each is a function of a key and a position.

Any number can be computed alone, and many at once. The generator is SplitMix64
(Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"),
whose state at a position is `key + position * _GAMMA`.
"""

import numpy as np
from jaxtyping import Float, Int, Int64, UInt64

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_COINS = 64  # Coins that `count_heads` tosses with one random number.
_NUMBERS = 1 << 16  # Random numbers that `count_heads` reserves per position.


def key(*entropy: int) -> UInt64[np.ndarray, "1"]:
  """A key made of integers, none of them negative."""
  return np.random.SeedSequence(entropy).generate_state(1, np.uint64)


def random_bits(
  key: UInt64[np.ndarray, "1"], positions: Int[np.ndarray, "n"]
) -> UInt64[np.ndarray, "n"]:
  """64 random bits for each position."""
  return _finalize(key + positions.astype(np.uint64) * _GAMMA)


def uniform(
  key: UInt64[np.ndarray, "1"], positions: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "n"]:
  """A number in [0, 1) for each position."""
  return (random_bits(key, positions) >> np.uint64(11)) * 2.0**-53


def count_heads(
  key: UInt64[np.ndarray, "1"],
  positions: Int[np.ndarray, "n"],
  counts: Int[np.ndarray, "n"],
) -> Int64[np.ndarray, "n"]:
  """For each position a sample of the binomial distribution B(count, 1/2)."""
  numbers = -(-counts // _COINS)
  owner = np.repeat(np.arange(len(counts)), numbers)
  number = index_in_group(numbers)
  drawn = random_bits(key, positions[owner] * _NUMBERS + number)
  unused = np.maximum(_COINS * (number + 1) - counts[owner], 0)
  drawn >>= unused.astype(np.uint64)
  found = np.bincount(owner, np.bitwise_count(drawn), len(counts))
  return found.astype(np.int64)


def hash_integers(values: UInt64[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
  """A 64-bit hash of each integer: the first output of SplitMix64 for it."""
  return _finalize(values + _GAMMA)


def index_in_group(
  counts: Int[np.ndarray, "groups"],
) -> Int64[np.ndarray, "items"]:
  """The index of each item within its group, for groups laid end to end.

  >>> index_in_group(np.array([2, 3])).tolist()
  [0, 1, 0, 1, 2]
  """
  counts = counts.astype(np.int64)
  return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)


def _finalize(z: UInt64[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
  z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return z ^ (z >> np.uint64(31))
