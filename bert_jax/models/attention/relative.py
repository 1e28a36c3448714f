"""Relative positions in attention: their buckets, and scores by distance."""

import math

import numpy as np
from jaxtyping import Array, Float, Int

_BIAS_MAX_DISTANCE = 128


def bias_buckets(length: int, count: int) -> Int[np.ndarray, "distances"]:
  """The buckets of a relative position bias, as in T5 and MPNet.

  Raffel et al. (2020, arXiv:1910.10683): half of the buckets are for keys after
  the query; of each half, one half are single distances, and the other grow
  logarithmically up to a distance of 128.

  Args:
    length: tokens of a row.
    count: the number of buckets.

  Returns:
    The bucket of each of the distances of `by_distance`.
  """
  distance = _distances(length)
  half, exact = count // 2, count // 4
  far = np.maximum(abs(distance), 1).astype(np.float32) / np.float32(exact)
  logarithm = np.log(far) / np.float32(math.log(_BIAS_MAX_DISTANCE / exact))
  large = exact + (logarithm * np.float32(half - exact)).astype(np.int32)
  large = np.minimum(large, half - 1)
  bucket = np.where(abs(distance) < exact, abs(distance), large)
  return np.where(distance > 0, half, 0) + bucket


def by_distance(
  x: Float[Array, "*rows length distances"],
) -> Float[Array, "*rows length length"]:
  """From values by distance to values by place.

  Shifts rows by reshaping: a gather is slow, its gradient even more.

  Args:
    x: for each token, a value for each of the `2 * length` distances
      `1 - length` to `length`.

  Returns:
    Entry [i, j] is `x[i]` at the distance j - i.
  """
  *rows, length, width = x.shape
  flat = x.reshape(*rows, length * width)[..., length - 1 :]
  flat = flat[..., : length * (width - 1)]
  return flat.reshape(*rows, length, width - 1)[..., :length]


def _distances(length: int) -> Int[np.ndarray, "distances"]:
  return np.arange(1 - length, length + 1)
