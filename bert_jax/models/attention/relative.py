"""Relative positions in attention: their buckets, and scores by distance."""

import math
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int

_BIAS_MAX_DISTANCE = 128


def bias_buckets(
  length: int, count: int
) -> Int[Array | np.ndarray, "distances"]:
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

  def bucket(distance: np.ndarray) -> np.ndarray:
    return _bias_buckets(distance, count)

  return _of_distances(bucket, length, _BIAS_MAX_DISTANCE)


def bias_buckets_of(
  distance: Int[Array, "..."], count: int
) -> Int[Array, "..."]:
  """`bias_buckets` of positions of keys less those of queries."""

  def bucket(distance: np.ndarray) -> np.ndarray:
    return _bias_buckets(distance, count)

  return _look_up(bucket, distance, _BIAS_MAX_DISTANCE)


def _bias_buckets(
  distance: Int[np.ndarray, "distances"], count: int
) -> Int[np.ndarray, "distances"]:
  half, exact = count // 2, count // 4
  far = np.maximum(abs(distance), 1).astype(np.float32) / np.float32(exact)
  logarithm = np.log(far) / np.float32(math.log(_BIAS_MAX_DISTANCE / exact))
  large = exact + (logarithm * np.float32(half - exact)).astype(np.int32)
  large = np.minimum(large, half - 1)
  bucket = np.where(abs(distance) < exact, abs(distance), large)
  return np.where(distance > 0, half, 0) + bucket


def embedding_buckets(
  distance: Int[np.ndarray, "distances"], count: int, max_distance: int
) -> Int[np.ndarray, "distances"]:
  """The buckets of DeBERTa's relative position embeddings.

  Half of them are single distances, and the others grow logarithmically.

  Args:
    distance: positions of queries less those of keys.
    count: the number of buckets, half of which are for keys after the query.
    max_distance: the distance of the last bucket.
  """
  middle, single = count // 2, count // 4
  far = np.maximum(abs(distance), single).astype(np.float32)
  logarithm = np.log(far / np.float32(single)) / np.log(
    np.float32((max_distance - 1) / single)
  )
  steps = np.ceil(logarithm * np.float32(single - 1)).astype(np.int32)
  bucket = np.where(abs(distance) <= single, abs(distance), single + steps)
  return np.clip(middle + np.sign(distance) * bucket, 0, count - 1)


def used_buckets(length: int | None, count: int, max_distance: int) -> slice:
  """The buckets of `embedding_buckets` that a row of a length uses.

  All of them if it is None or, as in `jax.export`, symbolic.
  """
  if not isinstance(length, int):
    return slice(0, count)
  ends = np.array([-length, length])
  first, last = embedding_buckets(ends, count, max_distance)
  return slice(int(first), int(last) + 1)


def disentangled_bias(
  query: Float[Array, "batch length heads depth"],
  key: Float[Array, "batch keys heads depth"],
  position_query: Float[Array, "buckets heads depth"],
  position_key: Float[Array, "buckets heads depth"],
  count: int,
  max_distance: int,
  distance: Int[Array, "batch length keys"] | None = None,
) -> Float32[Array, "batch heads length keys"]:
  """The scores of content and position, and of position and content.

  DeBERTa (He et al. 2020, arXiv:2006.03654), for `attention.attention`.

  Args:
    query: the queries of tokens.
    key: the keys of tokens.
    position_query: the queries of the buckets of `used_buckets`.
    position_key: the keys of these buckets.
    count: see `embedding_buckets`.
    max_distance: see `embedding_buckets`.
    distance: the positions of queries less those of keys, for those of all
      buckets; None where they are the places in a row.
  """
  length = None if distance is not None else query.shape[1]
  first = used_buckets(length, count, max_distance).start

  def bucket(distance: np.ndarray) -> np.ndarray:
    return embedding_buckets(distance, count, max_distance) - first

  def products(content: Array, position: Array) -> Array:
    return jnp.einsum(
      "bihd,jhd->bhij",
      content * jnp.asarray(content.shape[-1] ** -0.5, content.dtype),
      position,
      preferred_element_type=jnp.float32,
    )

  if distance is not None:
    index = _look_up(bucket, distance, max_distance)[:, None]
    of_query = products(query, position_key)
    of_query = jnp.take_along_axis(of_query, index, axis=-1)
    of_key = products(key, position_query).swapaxes(-1, -2)
    return of_query + jnp.take_along_axis(of_key, index, axis=-2)
  keys = position_key[_of_distances(lambda x: bucket(-x), length, max_distance)]
  queries = position_query[_of_distances(bucket, length, max_distance)]
  of_query = by_distance(products(query, keys))
  return of_query + by_distance(products(key, queries)).swapaxes(-1, -2)


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
  if not isinstance(length, int):  # Symbolic; it cannot be reshaped like this.
    place = jnp.arange(length)
    distance = place - place[:, None] + length - 1
    distance = distance.reshape(*[1] * len(rows), length, length)
    return jnp.take_along_axis(x, distance, axis=-1)
  flat = x.reshape(*rows, length * width)[..., length - 1 :]
  flat = flat[..., : length * (width - 1)]
  return flat.reshape(*rows, length, width - 1)[..., :length]


def _of_distances(
  bucket: Callable[[np.ndarray], np.ndarray], length: int, reach: int
) -> Int[Array | np.ndarray, "distances"]:
  """The buckets of the distances of `by_distance`.

  The length may be symbolic, as in `jax.export`. Buckets are then looked up
  among those of distances up to `reach`, beyond which they do not change:
  logarithms that XLA rounds otherwise would move some.
  """
  if isinstance(length, int):
    return bucket(np.arange(1 - length, length + 1))
  return _look_up(bucket, jnp.arange(1 - length, length + 1), reach)


def _look_up(
  bucket: Callable[[np.ndarray], np.ndarray],
  distance: Int[Array, "..."],
  reach: int,
) -> Int[Array, "..."]:
  table = jnp.asarray(bucket(np.arange(-reach, reach + 1)))
  return table[jnp.clip(distance, -reach, reach) + reach]
