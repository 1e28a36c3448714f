"""Attention of short rows by a Pallas kernel of our own, on TPUs.

All weights of a row and head fit into a core's memory, so that softmax needs
no second look, as in FlashAttention (Dao et al. 2022, arXiv:2205.14135) with
a single block; the backward pass computes them anew, and the masks of dropout
with them. Rows stay as the dense layers leave them, [length, heads x depth],
and a step of the kernel takes the heads that share the 128 lanes of a
register: nothing is laid out anew, where the kernel "splash" takes half empty
registers of heads of width 64.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array

from bert_jax.models.attention import devices
from bert_jax.models.attention.choice import SHORT_UP_TO
from bert_jax.models.attention.devices import LANES
from bert_jax.models.dropout import kept

_SUBLANES = 8
_UNSEEN = -1e30


class _Way(NamedTuple):
  """How a kernel attends.

  Attributes:
    depth: of a head.
    length: of a row, before it was filled up.
    window: as of `attention.attention`.
    rate: of dropout of weights; 0 for none.
  """

  depth: int
  length: int
  window: int
  rate: float


def attend(
  query: Array,
  key: Array,
  value: Array,
  sequence_ids: Array,
  seeds: Array | None = None,
  *,
  window: int,
  rate: float = 0.0,
) -> Array:
  """See `attention.attention`; on a CPU it is interpreted, which is slow.

  With a rate, weights are dropped as `drop_weights` does it, by the seeds of
  `weight_seeds`.
  """
  batch, length, heads, depth = query.shape
  fill = -length % LANES

  def flat(x: Array) -> Array:
    x = x.reshape(batch, length, heads * depth)
    return jnp.pad(x, ((0, 0), (0, fill), (0, 0)))

  query = query * jnp.asarray(depth**-0.5, query.dtype)
  ids = jnp.pad(sequence_ids, ((0, 0), (0, fill)), constant_values=-1)
  if seeds is None:
    seeds = jnp.zeros((batch, heads), jnp.uint32)
  way = _Way(depth, length, window, rate)
  mixed = _attend(flat(query), flat(key), flat(value), ids, seeds, way)
  return mixed[:, :length].reshape(query.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _attend(query, key, value, ids, seeds, way):
  return _run(_forward, way, ids, seeds, (query, key, value), results=1)[0]


def _attend_forward(*inputs_and_way):
  return _attend(*inputs_and_way), inputs_and_way[:-1]


def _attend_backward(way, inputs, cotangent):
  *arrays, ids, seeds = inputs
  arrays.append(cotangent)
  return *_run(_backward, way, ids, seeds, arrays, results=3), None, None


_attend.defvjp(_attend_forward, _attend_backward)


def _run(
  kernel: Callable[..., None],
  way: _Way,
  ids: Array,
  seeds: Array,
  arrays: Sequence[Array],
  results: int,
) -> Sequence[Array]:
  """Runs a kernel over rows, and over the heads that share lanes."""
  batch, length, width = arrays[0].shape
  rows = math.gcd(batch, max(1, SHORT_UP_TO // length))
  grid = (batch // rows, width // LANES)
  tokens = pl.BlockSpec((rows, length, LANES), lambda row, lane: (row, 0, lane))
  # The ids of a row stand in the first register of its rows or lanes.
  down = jnp.broadcast_to(ids[:, :, None], (batch, length, LANES))
  across = jnp.broadcast_to(ids[:, None], (batch, _SUBLANES, length))
  seeds = seeds.reshape(grid[0], rows, grid[1], -1).swapaxes(1, 2)
  return pl.pallas_call(
    functools.partial(kernel, way=way),
    grid=grid,
    in_specs=[
      pl.BlockSpec(
        (None, None, *seeds.shape[2:]),
        lambda row, lane: (row, lane, 0, 0),
        memory_space=pltpu.SMEM,
      ),
      pl.BlockSpec((rows, length, LANES), lambda row, _: (row, 0, 0)),
      pl.BlockSpec((rows, _SUBLANES, length), lambda row, _: (row, 0, 0)),
      *[tokens] * len(arrays),
    ],
    out_specs=[tokens] * results,
    out_shape=[
      jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays[:results]
    ],
    # Chips with two cores share the steps out between them.
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "parallel")
    ),
    interpret=devices.current().platform == "cpu",
  )(seeds, down, across, *arrays)


def _forward(seeds, down, across, query, key, value, mixed, *, way):
  for row in range(query.shape[0]):
    seen = _seen(down[row], across[row, :1], way.window)
    total = jnp.zeros(query.shape[1:])
    for head in range(LANES // way.depth):
      own = functools.partial(_own, head=head, depth=way.depth)
      scores = _dot(own(query[row]), key[row], (1, 1))
      scores = jnp.where(seen, scores, _UNSEEN)
      weights = jnp.exp(scores - scores.max(1, keepdims=True))
      share = weights.sum(1, keepdims=True) * (1 - way.rate)
      weights = _drop(weights, seeds[row, head], 0, way).astype(value.dtype)
      total += own(_dot(weights, value[row], (1, 0)) / share)
    mixed[row] = total.astype(mixed.dtype)


def _backward(
  seeds, down, across, query, key, value, cotangent, *gradients, way
):
  # Keys go down and queries across here, so that what is summed over keys is
  # summed over registers, and only one of the five products is transposed.
  for row in range(query.shape[0]):
    seen = _seen(down[row], across[row, :1], way.window)
    of_query, of_key, of_value = (jnp.zeros(query.shape[1:]) for _ in range(3))
    for head in range(LANES // way.depth):
      own = functools.partial(_own, head=head, depth=way.depth)
      queries, mix = own(query[row]), own(cotangent[row])
      scores = jnp.where(seen, _dot(key[row], queries, (1, 1)), _UNSEEN)
      weights = jnp.exp(scores - scores.max(0, keepdims=True))
      weights *= 1 / weights.sum(0, keepdims=True)
      left = _drop(weights, seeds[row, head], 1, way)
      of_value += _dot(left.astype(mix.dtype), mix, (1, 0))
      part = left * _dot(value[row], mix, (1, 1))
      of_scores = part - weights * part.sum(0, keepdims=True)
      of_scores = of_scores.astype(mix.dtype)
      of_key += _dot(of_scores, queries, (1, 0))
      of_query += own(_dot(of_scores, key[row], (0, 0)))
    # All three go up with what is left of the weights.
    for gradient, total in zip(gradients, (of_query, of_key, of_value)):
      gradient[row] = (total * (1 / (1 - way.rate))).astype(gradient.dtype)


def _drop(weights: Array, seed: Array, queries: int, way: _Way) -> Array:
  """Sets weights to zero, and leaves the others as they are.

  Args:
    weights: of a row and head.
    seed: of their mask.
    queries: which axis they are on.
    way: with the rate.
  """
  if not way.rate:
    return weights
  query, key = (
    jax.lax.broadcasted_iota(jnp.uint32, weights.shape, axis)
    for axis in (queries, 1 - queries)
  )
  place = query * jnp.uint32(way.length) + key
  return jnp.where(kept(place, seed, way.rate), weights, 0)


def _seen(down: Array, across: Array, window: int) -> Array:
  """Which tokens see each other; which way the queries go is all the same."""
  length = across.shape[1]
  seen = jnp.tile(down, (1, length // LANES)) == across
  if window:
    places = (
      jax.lax.broadcasted_iota(jnp.int32, seen.shape, axis) for axis in (0, 1)
    )
    one, other = places
    seen &= abs(one - other) <= window // 2
  return seen


def _own(x: Array, head: int, depth: int) -> Array:
  """The lanes of one head, and zeros in place of the other heads'.

  A product with them takes as long as one with the head's lanes alone.
  """
  lane = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
  return jnp.where(lane // depth == head, x, jnp.zeros_like(x))


def _dot(one: Array, other: Array, axes: tuple[int, int]) -> Array:
  return jax.lax.dot_general(
    one,
    other,
    (((axes[0],), (axes[1],)), ((), ())),
    preferred_element_type=jnp.float32,
  )
