"""Attention by a Pallas kernel for short rows, for TPUs.

The attention weights of a row and head fit into VMEM, so this is
FlashAttention (Dao et al. 2022, arXiv:2205.14135) with a single block; the
backward pass recomputes the weights and the dropout masks. Arrays keep the
layout of the dense layers, [length, heads x depth], and a grid step takes the
heads that share the 128 lanes of a register. So nothing is transposed, and
heads of width 64 fill the registers, which the kernel "splash" half fills.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jaxtyping import Array

from bert_jax.models.attention import devices
from bert_jax.models.attention.backends import SHORT_MAX_LENGTH
from bert_jax.models.attention.devices import LANES
from bert_jax.models.attention.visibility import (
  Tokens,
  pad_tokens,
  stage_bounds,
)
from bert_jax.models.dropout import is_kept

_SUBLANES = 8
_MASKED = -1e30


class _Options(NamedTuple):
  """The static arguments of the kernels.

  `length` is that of a row without padding to a multiple of the lanes.
  """

  depth: int
  length: int
  window: int
  rate: float


def attend(
  query: Array,
  key: Array,
  value: Array,
  tokens: Tokens,
  seeds: Array | None = None,
  *,
  window: int,
  rate: float = 0.0,
) -> Array:
  """See `attention.attention`; interpreted, and slow, on a CPU.

  Weights are dropped as by `drop_weights`, with the seeds of `weight_seeds`.
  """
  batch, length, heads, depth = query.shape
  padding = -length % LANES

  def flat(x: Array) -> Array:
    x = x.reshape(batch, length, heads * depth)
    return jnp.pad(x, ((0, 0), (0, padding), (0, 0)))

  query = query * jnp.asarray(depth**-0.5, query.dtype)
  facts = _facts(pad_tokens(tokens, padding))
  if seeds is None:
    seeds = jnp.zeros((batch, heads), jnp.uint32)
  options = _Options(depth, length, window, rate)
  mixed = _attend(flat(query), flat(key), flat(value), facts, seeds, options)
  return mixed[:, :length].reshape(query.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _attend(query, key, value, facts, seeds, options):
  arrays = (query, key, value)
  return _run(_forward, options, facts, seeds, arrays, results=1)[0]


def _attend_forward(*inputs_and_options):
  return _attend(*inputs_and_options), inputs_and_options[:-1]


def _attend_backward(options, inputs, cotangent):
  *arrays, (of_queries, of_keys), seeds = inputs
  arrays.append(cotangent)
  facts = (of_keys, of_queries)
  return *_run(_backward, options, facts, seeds, arrays, results=3), None, None


_attend.defvjp(_attend_forward, _attend_backward)


def _facts(tokens: Tokens) -> tuple[Array, Array]:
  """What decides who sees whom, of tokens as queries and as keys.

  Of each, [batch, facts, length]: sequence ids, and with stages their bounds
  and positions.
  """
  ids, stages, positions = tokens
  if stages is None:
    return (ids[:, None],) * 2
  if positions is None:
    positions = jnp.zeros_like(ids)
  last, first = stage_bounds(stages)
  return tuple(jnp.stack((ids, x, positions), axis=1) for x in (last, first))


def _run(
  kernel: Callable[..., None],
  options: _Options,
  facts: tuple[Array, Array],
  seeds: Array,
  arrays: Sequence[Array],
  results: int,
) -> Sequence[Array]:
  """Runs a kernel over rows and over groups of heads that share lanes."""
  batch, length, width = arrays[0].shape
  rows = math.gcd(batch, max(1, SHORT_MAX_LENGTH // length))
  grid = (batch // rows, width // LANES)
  tokens = pl.BlockSpec((rows, length, LANES), lambda row, lane: (row, 0, lane))
  # The facts of a row, broadcast along the lanes, and in the sublanes.
  down, across = facts
  count = down.shape[1]
  down = jnp.broadcast_to(down[..., None], (*down.shape, LANES))
  across = jnp.pad(across, ((0, 0), (0, _SUBLANES - count), (0, 0)))
  seeds = seeds.reshape(grid[0], rows, grid[1], -1).swapaxes(1, 2)
  return pl.pallas_call(
    functools.partial(kernel, options=options),
    grid=grid,
    in_specs=[
      pl.BlockSpec(
        (None, None, *seeds.shape[2:]),
        lambda row, lane: (row, lane, 0, 0),
        memory_space=pltpu.SMEM,
      ),
      pl.BlockSpec((rows, count, length, LANES), lambda row, _: (row, 0, 0, 0)),
      pl.BlockSpec((rows, _SUBLANES, length), lambda row, _: (row, 0, 0)),
      *[tokens] * len(arrays),
    ],
    out_specs=[tokens] * results,
    out_shape=[
      jax.ShapeDtypeStruct(x.shape, x.dtype) for x in arrays[:results]
    ],
    # Chips with two cores divide the steps between them.
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel", "parallel")
    ),
    interpret=devices.current().platform == "cpu",
  )(seeds, down, across, *arrays)


def _forward(seeds, down, across, query, key, value, mixed, *, options):
  for row in range(query.shape[0]):
    mask = _mask(down, across, row, 0, options.window)
    total = jnp.zeros(query.shape[1:])
    for head in range(LANES // options.depth):
      lanes = functools.partial(_lanes_of, head=head, depth=options.depth)
      scores = _dot(lanes(query[row]), key[row], (1, 1))
      scores = jnp.where(mask, scores, _MASKED)
      weights = jnp.exp(scores - scores.max(1, keepdims=True))
      share = weights.sum(1, keepdims=True) * (1 - options.rate)
      weights = _drop(weights, seeds[row, head], 0, options).astype(value.dtype)
      total += lanes(_dot(weights, value[row], (1, 0)) / share)
    mixed[row] = total.astype(mixed.dtype)


def _backward(
  seeds, down, across, query, key, value, cotangent, *gradients, options
):
  # Keys are on the first axis and queries on the second, so that sums over keys
  # are over registers, and only one of the five products is transposed.
  for row in range(query.shape[0]):
    mask = _mask(down, across, row, 1, options.window)
    of_query, of_key, of_value = (jnp.zeros(query.shape[1:]) for _ in range(3))
    for head in range(LANES // options.depth):
      lanes = functools.partial(_lanes_of, head=head, depth=options.depth)
      queries, mix = lanes(query[row]), lanes(cotangent[row])
      scores = jnp.where(mask, _dot(key[row], queries, (1, 1)), _MASKED)
      weights = jnp.exp(scores - scores.max(0, keepdims=True))
      weights *= 1 / weights.sum(0, keepdims=True)
      left = _drop(weights, seeds[row, head], 1, options)
      of_value += _dot(left.astype(mix.dtype), mix, (1, 0))
      part = left * _dot(value[row], mix, (1, 1))
      of_scores = part - weights * part.sum(0, keepdims=True)
      of_scores = of_scores.astype(mix.dtype)
      of_key += _dot(of_scores, queries, (1, 0))
      of_query += lanes(_dot(of_scores, key[row], (0, 0)))
    # All three are scaled for the dropped weights.
    for gradient, total in zip(gradients, (of_query, of_key, of_value)):
      gradient[row] = (total * (1 / (1 - options.rate))).astype(gradient.dtype)


def _drop(
  weights: Array, seed: Array, queries: int, options: _Options
) -> Array:
  """Sets weights to zero; `queries` is the axis of the queries."""
  if not options.rate:
    return weights
  query, key = (
    jax.lax.broadcasted_iota(jnp.uint32, weights.shape, axis)
    for axis in (queries, 1 - queries)
  )
  place = query * jnp.uint32(options.length) + key
  return jnp.where(is_kept(place, seed, options.rate), weights, 0)


def _mask(down: Any, across: Any, row: int, queries: int, window: int) -> Array:
  """The attention mask of a row; `queries` is the axis of the queries."""
  length = across.shape[-1]

  def fact(index: int) -> tuple[Array, Array]:
    one = jnp.tile(down[row, index], (1, length // LANES))
    return one, across[row, index : index + 1]

  def places() -> tuple[Array, ...]:
    shape = (length, length)
    return tuple(
      jax.lax.broadcasted_iota(jnp.int32, shape, axis) for axis in (0, 1)
    )

  one, other = fact(0)
  # Its own transpose, if there are no stages.
  mask = one == other
  has_stages = down.shape[1] > 1
  if has_stages:
    one, other = fact(1)
    mask &= other <= one if queries == 0 else one <= other
    one, other = places()
    mask |= one == other
  if window:
    # Masked copies are not at the place of their position.
    one, other = fact(2) if has_stages else places()
    mask &= abs(one - other) <= window // 2
  return mask


def _lanes_of(x: Array, head: int, depth: int) -> Array:
  """The lanes of one head, the others set to zero.

  A product of all lanes takes as long as one of the lanes of a head.
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
