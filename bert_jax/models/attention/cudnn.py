"""Attention by cuDNN's fused kernels, on NVIDIA GPUs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from bert_jax.models.attention.visible import visible


def attend(
  query: Array, key: Array, value: Array, sequence_ids: Array, window: int
) -> Array:
  """See `attention.attention`.

  What may be seen is told by a mask: nothing else that
  `jax.nn.dot_product_attention` takes says that a row has several sequences,
  or that a window has two sides.
  """
  length = query.shape[1]
  # With a mask, the backward pass takes rows of an even length only.
  fill = length % 2
  query, key, value = (
    jnp.pad(x, ((0, 0), (0, fill), (0, 0), (0, 0))) for x in (query, key, value)
  )
  ids = jnp.pad(sequence_ids, ((0, 0), (0, fill)), constant_values=-1)
  mixed = jax.nn.dot_product_attention(
    query,
    key,
    value,
    mask=visible(ids, window)[:, None],
    implementation="cudnn",
  )
  return mixed[:, :length]
