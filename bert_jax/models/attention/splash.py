"""Attention by the Pallas kernel "splash", on TPUs.

It never has the weights of a row in memory, knows sequence ids, and skips the
blocks that a local window leaves empty.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jaxtyping import Array

from bert_jax.models.attention import devices
from bert_jax.models.attention.devices import LANES

# Larger ones take fewer steps, but see more of what is out of a window.
_LARGEST_BLOCK, _LARGEST_LOCAL_BLOCK = 1024, 512


def attend(
  query: Array, key: Array, value: Array, sequence_ids: Array, window: int
) -> Array:
  """See `attention.attention`; on a CPU it is interpreted, which is slow."""
  _, length, heads, depth = query.shape
  fill = -length % LANES

  def by_heads(x: Array) -> Array:
    return jnp.pad(x, ((0, 0), (0, fill), (0, 0), (0, 0))).swapaxes(1, 2)

  query = query * jnp.asarray(depth**-0.5, query.dtype)
  ids = jnp.pad(sequence_ids, ((0, 0), (0, fill)), constant_values=-1)
  mixed = jax.vmap(_kernel(heads, length + fill, depth, window))(
    by_heads(query), by_heads(key), by_heads(value), splash.SegmentIds(ids, ids)
  )
  return mixed.swapaxes(1, 2)[:, :length]


def _kernel(
  heads: int, length: int, depth: int, window: int
) -> Callable[..., Array]:
  """Attention of one row, whose length the lanes of a TPU divide."""
  block, shape = _block(length, window), (length, length)
  mask = (
    splash.LocalMask(shape, (window // 2, window // 2), offset=0)
    if window
    else splash.FullMask(shape)
  )
  # Narrow heads would leave registers half empty; tokens fill them.
  layout = (
    splash.QKVLayout.SEQ_MINOR
    if depth < LANES
    else splash.QKVLayout.HEAD_DIM_MINOR
  )
  return splash.make_splash_mha(
    splash.MultiHeadMask([mask] * heads),
    block_sizes=splash.BlockSizes(
      block_q=block,
      block_kv=block,
      block_q_dkv=block,
      block_kv_dkv=block,
      **_backward(block, length),
      **dict.fromkeys(("q_layout", "k_layout", "v_layout"), layout),
    ),
    head_shards=1,
    q_seq_shards=1,
    interpret=devices.current().platform == "cpu",
  )


def _block(length: int, window: int) -> int:
  """The largest block that divides a row."""
  most = _LARGEST_LOCAL_BLOCK if window else _LARGEST_BLOCK
  blocks = range(LANES, most + 1, LANES)
  return max(block for block in blocks if length % block == 0)


def _backward(block: int, length: int) -> dict[str, Any]:
  """Of a single block, one kernel makes all gradients, and the weights once.

  Of several it would write out the part of every block, to be added up.
  """
  if block == length:
    return {"use_fused_bwd_kernel": True}
  return {"block_q_dq": block, "block_kv_dq": block}
