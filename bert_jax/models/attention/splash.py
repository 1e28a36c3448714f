"""Attention by JAX's Pallas kernel "splash", for TPUs.

The kernel never materialises the attention weights of a row, supports sequence
ids, and skips blocks outside of a local window.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention as splash
from jaxtyping import Array

from bert_jax.models.attention import devices
from bert_jax.models.attention.devices import LANES
from bert_jax.models.attention.visibility import Tokens

# Larger blocks need fewer grid steps, but compute more outside of a window.
_MAX_BLOCK, _MAX_LOCAL_BLOCK = 1024, 512


def attend(
  query: Array, key: Array, value: Array, tokens: Tokens, window: int
) -> Array:
  """See `attention.attention`; interpreted, and slow, on a CPU.

  Tokens have no stages.
  """
  _, length, heads, depth = query.shape
  padding = -length % LANES

  def by_heads(x: Array) -> Array:
    return jnp.pad(x, ((0, 0), (0, padding), (0, 0), (0, 0))).swapaxes(1, 2)

  query = query * jnp.asarray(depth**-0.5, query.dtype)
  ids = jnp.pad(tokens.sequence_ids, ((0, 0), (0, padding)), constant_values=-1)
  mixed = jax.vmap(_kernel(heads, length + padding, depth, window))(
    by_heads(query), by_heads(key), by_heads(value), splash.SegmentIds(ids, ids)
  )
  return mixed.swapaxes(1, 2)[:, :length]


def _kernel(
  heads: int, length: int, depth: int, window: int
) -> Callable[..., Array]:
  """Attention of one row, whose length is a multiple of the lanes."""
  block, shape = _block(length, window), (length, length)
  mask = (
    splash.LocalMask(shape, (window // 2, window // 2), offset=0)
    if window
    else splash.FullMask(shape)
  )
  # Narrow heads would leave lanes of a register unused; tokens fill them.
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
  """The largest block size that divides the length."""
  maximum = _MAX_LOCAL_BLOCK if window else _MAX_BLOCK
  blocks = range(LANES, maximum + 1, LANES)
  return max(block for block in blocks if length % block == 0)


def _backward(block: int, length: int) -> dict[str, Any]:
  """The block sizes of the backward pass.

  For a single block, one fused kernel computes all gradients, and the weights
  once. For several blocks it would write the gradients of each to memory, to be
  summed.
  """
  if block == length:
    return {"use_fused_bwd_kernel": True}
  return {"block_q_dq": block, "block_kv_dq": block}
