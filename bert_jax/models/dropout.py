"""Dropout whose masks are hashes of the position of each element and a key.

A generator of random bits writes them to memory, in one pass for each of its
rounds, and its values depend on how they are sharded. Here the bit of an
element is a hash of its index: a few integer operations, which the compiler
fuses into the consumer of the mask, and the same on any mesh. This is a
counter-based generator (Salmon et al. 2011, "Parallel random numbers: as easy
as 1, 2, 3") with the mixing function of MurmurHash3, which is cheaper than its
rounds and sufficient for dropout.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt32

# The golden ratio as an odd number, so that neighbours differ in many bits.
_STEP = 0x9E3779B9


def keep_mask(
  key: PRNGKeyArray, rate: float, shape: tuple[int, ...]
) -> Bool[Array, "..."]:
  """A mask that is True with probability `1 - rate`, independently.

  Args:
    key: the PRNG key of the mask.
    rate: in [0, 1), rounded down to a multiple of 2**-32.
    shape: the shape of the mask; its last two axes have up to 2**32 elements.
  """
  outer, inner = shape[:-2], shape[-2:]
  seeds = mask_seeds(key, outer).reshape(*outer, *(1 for _ in inner))
  return is_kept(_index(inner), seeds, rate)


def mask_seeds(
  key: PRNGKeyArray, shape: tuple[int, ...]
) -> UInt32[Array, "..."]:
  """The seeds of the masks of `keep_mask`, one for each mask of two axes.

  `shape` is that of all masks without the last two axes.
  """
  return _mix(_index(shape), jax.random.bits(key, (), jnp.uint32))


def is_kept(
  place: UInt32[Array, "..."], seed: UInt32[Array, "..."], rate: float
) -> Bool[Array, "..."]:
  """The mask at some elements; also used inside of kernels.

  `place` is their row-major index within a mask with a seed of `mask_seeds`.
  """
  # TPUs compare signed integers only, and would convert unsigned ones.
  mixed = _mix(place, seed).astype(jnp.int32)
  return mixed >= jnp.int32(math.floor(rate * 2**32) - 2**31)


def drop(
  x: Float[Array, "..."],
  key: PRNGKeyArray,
  rate: float,
  shape: tuple[int, ...] | None = None,
) -> Float[Array, "..."]:
  """Sets a share `rate` to zero and scales the rest up by `1 / (1 - rate)`.

  `shape` is the shape of the mask, if it is to be broadcast to that of `x`.
  """
  mask = keep_mask(key, rate, x.shape if shape is None else shape)
  return drop_by_mask(x, mask, rate)


def drop_by_mask(
  x: Float[Array, "..."], mask: Bool[Array, "..."], rate: float
) -> Float[Array, "..."]:
  """`drop` with a given mask, of `keep_mask` or `is_kept`."""
  # In bfloat16, 1 / 0.9 has an error of 0.17 %.
  scaled = x.astype(jnp.float32) * (1 / (1 - rate))
  return jnp.where(mask, scaled, 0).astype(x.dtype)


class Dropout(nn.Module):
  """`drop` with the PRNG `dropout`."""

  rate: float

  @nn.compact
  def __call__(
    self, x: Float[Array, "..."], deterministic: bool
  ) -> Float[Array, "..."]:
    """Drops elements, unless `deterministic`."""
    if deterministic or not self.rate:
      return x
    return drop(x, self.make_rng("dropout"), self.rate)


def _index(shape: tuple[int, ...]) -> UInt32[Array, "..."]:
  """The row-major index of each element, modulo 2**32."""
  index, stride = jnp.zeros(shape, jnp.uint32), 1
  for axis in reversed(range(len(shape))):
    if shape[axis] > 1:
      place = jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
      index += place * jnp.uint32(stride % 2**32)
    stride *= shape[axis]
  return index


def _mix(
  x: UInt32[Array, "..."], seed: UInt32[Array, "..."]
) -> UInt32[Array, "..."]:
  """A hash with good upper bits: `fmix32` of MurmurHash3 with a seed."""
  x = x * jnp.uint32(_STEP) ^ seed
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  return (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
