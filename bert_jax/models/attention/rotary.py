"""Rotary position embedding."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def rotate(
  x: Float[Array, "batch length heads depth"],
  position_ids: Int[Array, "batch length"],
  base: float,
) -> Float[Array, "batch length heads depth"]:
  """Rotary position embedding of queries or keys.

  RoFormer (Su et al. 2021, arXiv:2104.09864), with each dimension of the
  first half paired with one of the second, as in GPT-NeoX and ModernBERT. The
  depth is even; `base` is that of the geometric sequence of wavelengths.
  """
  half = x.shape[-1] // 2
  frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angles = (position_ids[..., None] * frequencies)[:, :, None]
  cosine, sine = jnp.cos(angles), jnp.sin(angles)
  first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
  rotated = (first * cosine - second * sine, second * cosine + first * sine)
  return jnp.concatenate(rotated, axis=-1).astype(x.dtype)
