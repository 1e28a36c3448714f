"""Attention in plain jax.numpy: everywhere, with any dropout."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from bert_jax.models.attention.dropout import Dropout, drop_weights
from bert_jax.models.attention.visible import visible


def attend(
  query: Array,
  key: Array,
  value: Array,
  sequence_ids: Array,
  window: int,
  dropout: Dropout | None = None,
) -> Array:
  """See `attention.attention`; dropout is that of weights."""
  scale = query.shape[-1] ** -0.5
  scores = jnp.einsum(
    "bqhd,bkhd->bhqk",
    query * jnp.asarray(scale, query.dtype),
    key,
    preferred_element_type=jnp.float32,
  )
  seen = visible(sequence_ids, window)[:, None]
  scores = jnp.where(seen, scores, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(scores, axis=-1)
  if dropout is not None:
    weights = drop_weights(weights, dropout)
  return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(query.dtype), value)
