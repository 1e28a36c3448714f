"""Dropout whose masks are made where they are used, from a place and a key.

A generator of random bits writes them to memory, in as many passes as it has
rounds, and splits them over devices in a way of its own. Here the bit of an
element is a hash of its index: a few integer operations, which the compiler
fuses with what reads the mask, and the same on any mesh. This is the idea of
counter-based generators (Salmon et al. 2011, "Parallel random numbers: as easy
as 1, 2, 3"), with the cheaper mixing of MurmurHash3 for its rounds: dropout
needs no more.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, UInt32

# The golden ratio, odd: neighbours are far apart.
_STEP = 0x9E3779B9


def keep_mask(
  key: PRNGKeyArray, rate: float, shape: tuple[int, ...]
) -> Bool[Array, "..."]:
  """What stays: each element by itself, with probability `1 - rate`.

  Args:
    key: another key gives another mask.
    rate: from 0 to below 1, as a multiple of 2**-32.
    shape: of the mask; its last two axes have up to 2**32 elements.
  """
  outer, inner = shape[:-2], shape[-2:]
  seeds = mask_seeds(key, outer).reshape(*outer, *(1 for _ in inner))
  return kept(_index(inner), seeds, rate)


def mask_seeds(
  key: PRNGKeyArray, shape: tuple[int, ...]
) -> UInt32[Array, "..."]:
  """What the masks of `keep_mask` are made from, one seed for each mask.

  Args:
    key: as there.
    shape: as there, but for the last two axes, which are those of one mask.
  """
  return _mix(_index(shape), jax.random.bits(key, (), jnp.uint32))


def kept(
  place: UInt32[Array, "..."], seed: UInt32[Array, "..."], rate: float
) -> Bool[Array, "..."]:
  """Which elements of a mask stay; kernels make theirs with it, too.

  Args:
    place: the indices of elements within their mask, in row-major order.
    seed: of the mask, by `mask_seeds`.
    rate: as of `keep_mask`.
  """
  # What is compared is signed: of unsigned numbers TPUs would have to make it.
  mixed = _mix(place, seed).astype(jnp.int32)
  return mixed >= jnp.int32(math.floor(rate * 2**32) - 2**31)


def drop(
  x: Float[Array, "..."],
  key: PRNGKeyArray,
  rate: float,
  shape: tuple[int, ...] | None = None,
) -> Float[Array, "..."]:
  """Sets elements to zero, and scales the others up to keep the mean.

  Args:
    x: any array.
    key: of the mask.
    rate: the share of zeros.
    shape: of the mask, which `x` broadcasts; None for that of `x`.
  """
  stays = keep_mask(key, rate, x.shape if shape is None else shape)
  # In bfloat16 1 / 0.9 would be off by a sixth of a percent.
  scaled = x.astype(jnp.float32) * (1 / (1 - rate))
  return jnp.where(stays, scaled, 0).astype(x.dtype)


class Dropout(nn.Module):
  """`drop` with the PRNG `dropout`.

  Attributes:
    rate: the share of zeros.
  """

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
  """The index of each element in row-major order, modulo 2**32."""
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
  """A hash whose upper bits are good; `fmix32` of MurmurHash3, with a seed."""
  x = x * jnp.uint32(_STEP) ^ seed
  x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
  return (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
