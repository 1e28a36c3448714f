"""Attention by the fused kernels of cuDNN, for NVIDIA GPUs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from bert_jax.models.attention.visibility import Tokens, own_mask, pad_tokens


def attend(
  query: Array, key: Array, value: Array, tokens: Tokens, window: int
) -> Array:
  """See `attention.attention`.

  Uses a dense mask: `jax.nn.dot_product_attention` has no other argument for
  packed sequences or stages, nor for a window with two sides.
  """
  length = query.shape[1]
  # With a mask, the backward pass only supports even lengths.
  padding = length % 2
  query, key, value = (
    jnp.pad(x, ((0, 0), (0, padding), (0, 0), (0, 0)))
    for x in (query, key, value)
  )
  tokens = pad_tokens(tokens, padding)
  mixed = jax.nn.dot_product_attention(
    query,
    key,
    value,
    mask=own_mask(tokens, window)[:, None],
    implementation="cudnn",
  )
  return mixed[:, :length]
