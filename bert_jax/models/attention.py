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
  window: int = 0,
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
    window: above 0, tokens see only those at most `window // 2` away.
    backend: a name in `BACKENDS`.
    dropout_rate: the share of attention weights set to zero.
    dropout_key: needed when `dropout_rate` is above 0.

  Returns:
    The weighted values, in the dtype of `query`.
  """
  return BACKENDS[backend](
    query, key, value, sequence_ids, window, dropout_rate, dropout_key
  )


def _xla(query, key, value, sequence_ids, window, dropout_rate, dropout_key):
  scale = query.shape[-1] ** -0.5
  scores = jnp.einsum(
    "bqhd,bkhd->bhqk",
    query * jnp.asarray(scale, query.dtype),
    key,
    preferred_element_type=jnp.float32,
  )
  seen = sequence_ids[:, :, None] == sequence_ids[:, None, :]
  if window:
    place = jnp.arange(query.shape[1])
    seen &= abs(place[:, None] - place) <= window // 2
  scores = jnp.where(seen[:, None], scores, jnp.finfo(jnp.float32).min)
  weights = jax.nn.softmax(scores, axis=-1)
  if dropout_rate > 0:
    keep = 1 - dropout_rate
    kept = jax.random.bernoulli(dropout_key, keep, weights.shape)
    weights = jnp.where(kept, weights / keep, 0)
  return jnp.einsum("bhqk,bkhd->bqhd", weights.astype(query.dtype), value)


def rotate(
  x: Float[Array, "batch length heads depth"],
  position_ids: Int[Array, "batch length"],
  base: float,
) -> Float[Array, "batch length heads depth"]:
  """Rotary position embedding of queries or keys.

  RoFormer (Su et al. 2021, arXiv:2104.09864), with each dimension of the
  first half paired with one of the second, as GPT-NeoX and ModernBERT do.

  Args:
    x: projected queries or keys; `depth` is even.
    position_ids: the position of a token in its own sequence.
    base: of the geometric row of wave lengths.
  """
  half = x.shape[-1] // 2
  frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angles = (position_ids[..., None] * frequencies)[:, :, None]
  cosine, sine = jnp.cos(angles), jnp.sin(angles)
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  rotated = (first * cosine - second * sine, second * cosine + first * sine)
  return jnp.concatenate(rotated, axis=-1).astype(x.dtype)


BACKENDS: dict[str, Callable[..., Array]] = {"xla": _xla}
