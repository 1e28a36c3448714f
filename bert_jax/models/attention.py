"""Attention, one function for every backend."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray


def attention(
  query: Float[Array, "batch length heads depth"],
  key: Float[Array, "batch length heads depth"],
  value: Float[Array, "batch length heads depth"],
  sequence_ids: Int[Array, "batch length"],
  *,
  backend: str = "xla",
  dropout_rate: float = 0.0,
  dropout_key: PRNGKeyArray | None = None,
) -> Float[Array, "batch length heads depth"]:
  """Scaled dot-product attention within each packed sequence.

  Tokens attend to the tokens with their own sequence id (padding, id 0, to
  padding: what comes out there is finite and means nothing).

  Args:
    query: projected queries, not yet scaled.
    key: projected keys.
    value: projected values.
    sequence_ids: which sequence of the row a token belongs to.
    backend: a name in `BACKENDS`.
    dropout_rate: the share of attention weights set to zero.
    dropout_key: needed when `dropout_rate` is above 0.

  Returns:
    The weighted values, in the dtype of `query`.
  """
  return BACKENDS[backend](
    query, key, value, sequence_ids, dropout_rate, dropout_key
  )


def _xla(query, key, value, sequence_ids, dropout_rate, dropout_key):
  scale = query.shape[-1] ** -0.5
  scores = jnp.einsum(
    "bqhd,bkhd->bhqk",
    query * jnp.asarray(scale, query.dtype),
    key,
    preferred_element_type=jnp.float32,
  )
  same = sequence_ids[:, :, None] == sequence_ids[:, None, :]
  scores = jnp.where(same[:, None], scores, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(scores, axis=-1)
  if dropout_rate > 0:
    keep = 1 - dropout_rate
    kept = jax.random.bernoulli(dropout_key, keep, weights.shape)
    weights = jnp.where(kept, weights / keep, 0)
  return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(query.dtype), value)


BACKENDS: dict[str, Callable[..., Array]] = {"xla": _xla}
