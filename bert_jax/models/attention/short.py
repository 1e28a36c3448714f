"""Attention of short rows by a Pallas kernel of our own, on TPUs.

All weights of a row and head fit into a core's memory, so that softmax needs
no second look, as in FlashAttention (Dao et al. 2022, arXiv:2205.14135) with
a single block; the backward pass computes them anew. Rows stay as the dense
layers leave them, [length, heads x depth], and a step of the kernel takes the
heads that share the 128 lanes of a register: nothing is laid out anew, where
the kernel "splash" takes half empty registers of heads of width 64.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jaxtyping import Array

from bert_jax.models.attention import devices

LANES = 128
# Tokens of a step: as many as their weights leave room for.
MOST_TOKENS = 512
_SUBLANES = 8
_UNSEEN = -1e30


def attend(
  query: Array, key: Array, value: Array, sequence_ids: Array, window: int
) -> Array:
  """See `attention.attention`; on a CPU it is interpreted, which is slow."""
  batch, length, heads, depth = query.shape
  fill = -length % LANES

  def flat(x: Array) -> Array:
    x = x.reshape(batch, length, heads * depth)
    return jnp.pad(x, ((0, 0), (0, fill), (0, 0)))

  query = query * jnp.asarray(depth**-0.5, query.dtype)
  ids = jnp.pad(sequence_ids, ((0, 0), (0, fill)), constant_values=-1)
  mixed = _attend(flat(query), flat(key), flat(value), ids, depth, window)
  return mixed[:, :length].reshape(query.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attend(query, key, value, ids, depth, window):
  kernel = functools.partial(_forward, depth=depth, window=window)
  return _run(kernel, (query, key, value), ids, results=1)[0]


def _attend_forward(query, key, value, ids, depth, window):
  inputs = (query, key, value, ids)
  return _attend(*inputs, depth, window), inputs


def _attend_backward(depth, window, inputs, cotangent):
  *arrays, ids = inputs
  kernel = functools.partial(_backward, depth=depth, window=window)
  return *_run(kernel, (*arrays, cotangent), ids, results=3), None


_attend.defvjp(_attend_forward, _attend_backward)


def _run(
  kernel: Callable[..., None], arrays: Sequence[Array], ids: Array, results: int
) -> Sequence[Array]:
  """Runs a kernel over rows, and over the heads that share lanes."""
  batch, length, width = arrays[0].shape
  rows = math.gcd(batch, max(1, MOST_TOKENS // length))
  tokens = pl.BlockSpec((rows, length, LANES), lambda row, lane: (row, 0, lane))
  # The ids of a row stand in the first register of its rows or lanes.
  down = jnp.broadcast_to(ids[:, :, None], (batch, length, LANES))
  across = jnp.broadcast_to(ids[:, None], (batch, _SUBLANES, length))
  return pl.pallas_call(
    kernel,
    grid=(batch // rows, width // LANES),
    in_specs=[
      pl.BlockSpec((rows, length, LANES), lambda row, _: (row, 0, 0)),
      pl.BlockSpec((rows, _SUBLANES, length), lambda row, _: (row, 0, 0)),
      *[tokens] * len(arrays),
    ],
    out_specs=[tokens] * results,
    out_shape=[
      jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays[:results]
    ],
    interpret=devices.current().platform == "cpu",
  )(down, across, *arrays)


def _forward(down, across, query, key, value, mixed, *, depth, window):
  for row in range(query.shape[0]):
    seen = _seen(down[row], across[row, :1], window)
    total = jnp.zeros(query.shape[1:])
    for head in range(LANES // depth):
      own = functools.partial(_own, head=head, depth=depth)
      scores = _dot(own(query[row]), key[row], (1, 1))
      scores = jnp.where(seen, scores, _UNSEEN)
      weights = jnp.exp(scores - scores.max(1, keepdims=True))
      share = weights.sum(1, keepdims=True)
      weights = weights.astype(value.dtype)
      total += own(_dot(weights, value[row], (1, 0)) / share)
    mixed[row] = total.astype(mixed.dtype)


def _backward(
  down, across, query, key, value, cotangent, *gradients, depth, window
):
  # Keys go down and queries across here, so that what is summed over keys is
  # summed over registers, and only one of the five products is transposed.
  for row in range(query.shape[0]):
    seen = _seen(down[row], across[row, :1], window)
    of_query, of_key, of_value = (jnp.zeros(query.shape[1:]) for _ in range(3))
    for head in range(LANES // depth):
      own = functools.partial(_own, head=head, depth=depth)
      queries, mix = own(query[row]), own(cotangent[row])
      scores = jnp.where(seen, _dot(key[row], queries, (1, 1)), _UNSEEN)
      weights = jnp.exp(scores - scores.max(0, keepdims=True))
      weights *= 1 / weights.sum(0, keepdims=True)
      of_value += _dot(weights.astype(mix.dtype), mix, (1, 0))
      of_weights = _dot(value[row], mix, (1, 1))
      mean = (weights * of_weights).sum(0, keepdims=True)
      of_scores = (weights * (of_weights - mean)).astype(mix.dtype)
      of_key += _dot(of_scores, queries, (1, 0))
      of_query += own(_dot(of_scores, key[row], (0, 0)))
    for gradient, total in zip(gradients, (of_query, of_key, of_value)):
      gradient[row] = total.astype(gradient.dtype)


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
