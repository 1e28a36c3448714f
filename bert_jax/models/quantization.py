"""Parameters in 8 or 4 bits.

A quantized parameter is a dict in its place: `int8` or `int4`, and `scale`.
Kernels have a scale for each output feature, embeddings one for each row; in 4
bits there is one for each `GROUP` of these values. Values are symmetric around
0: rounded to the nearest of -127 ... 127 or -7 ... 7 times the scale. Scales
have 17 significant bits, so that these products are exact, and parameters that
were quantized before are quantized to the same bits.
"""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Float32, Int8

from bert_jax import trees
from bert_jax.types import Parameters

GROUP = 32
"""The values of a kernel's column, or an embedding's row, that share a scale in
4 bits."""

BITS = {8: "int8", 4: "int4"}
_GREATEST = {"int8": 127, "int4": 7}
_SMALL = 256
"""Parameters of fewer values stay as they are."""


def is_quantizable(path: str, x: Any) -> bool:
  """Whether a parameter is a kernel or an embedding, and not tiny."""
  name = path.rpartition("/")[2]
  return (
    name in ("kernel", "embedding", "decoder")
    and len(x.shape) == 2
    and x.size >= _SMALL
  )


def quantize(params: Parameters, bits: int = 8) -> Parameters:
  """Kernels and embeddings in 8 or 4 bits; the others as they are.

  In 4 bits those whose values do not divide into groups have 8.
  """

  def of(path: str, x: Array) -> Any:
    if not is_quantizable(path, x):
      return x
    fits = x.shape[_axis(path)] % GROUP == 0
    name = BITS[bits if fits else 8]
    return _quantized(jnp.asarray(x), _axis(path), name)

  return trees.map_with_path(of, params)


def dequantize(params: Parameters) -> Parameters:
  """Float32 parameters; those that are not quantized stay the same."""
  flat, made = trees.flatten(params), {}
  names = BITS.values()
  for path, x in flat.items():
    parent, _, leaf = path.rpartition("/")
    if leaf in names:
      made[parent] = _values(x, flat[f"{parent}/scale"], _axis(parent), leaf)
    elif leaf != "scale" or not any(f"{parent}/{x}" in flat for x in names):
      made[path] = x
  return trees.unflatten(made)


def to_int8(
  x: Float[Array, "..."], axis: int
) -> tuple[Int8[Array, "..."], Float32[Array, "..."]]:
  """Values in 8 bits, and the scales that they share along an axis of size 1.

  The values times the scales are the rounded ones.
  """
  greatest = _GREATEST["int8"]
  largest = jnp.abs(x).max(axis, keepdims=True)
  scale = _scale(largest.astype(jnp.float32), greatest)
  return _rounded(x, scale, greatest), scale


def is_quantized(paths: Collection[str]) -> bool:
  """Whether parameters with these paths are quantized."""
  return any(path.endswith(("/int8", "/int4")) for path in paths)


def stored_shapes(shapes: Parameters, paths: Collection[str]) -> Parameters:
  """Shape structs of what is stored, by the paths of that.

  Args:
    shapes: of the parameters in float32.
    paths: of the stored arrays.
  """

  def of(path: str, x: jax.ShapeDtypeStruct) -> Any:
    for name in BITS.values():
      if f"{path}/{name}" in paths:
        return jax.eval_shape(
          lambda x, name=name: _quantized(x, _axis(path), name), x
        )
    return x

  return trees.map_with_path(of, shapes)


def _axis(path: str) -> int:
  """The axis along which values share a scale."""
  return 0 if path.endswith("/kernel") else 1


def _quantized(
  x: Float[Array, "rows columns"], axis: int, name: str
) -> dict[str, Array]:
  if name == "int8":
    values, scale = to_int8(x, axis)
    return {name: values, "scale": scale.squeeze(axis)}
  greatest = _GREATEST[name]
  columns = x if axis == 0 else x.T
  grouped = columns.reshape(-1, GROUP, columns.shape[1])
  scale = _scale(jnp.abs(grouped).max(1, keepdims=True), greatest)
  values = _rounded(grouped, scale, greatest).reshape(-1, grouped.shape[-1])
  low, high = (values[i::2].astype(jnp.uint8) & 15 for i in (0, 1))
  return {name: low | high << 4, "scale": scale.squeeze(1)}


def _scale(largest: Array, greatest: int) -> Array:
  """The largest value over the greatest number, to the nearest of 17 bits."""
  bits = jax.lax.bitcast_convert_type(largest / greatest, jnp.uint32)
  return jax.lax.bitcast_convert_type(
    (bits + 0x40) & jnp.uint32(0xFFFFFF80), jnp.float32
  )


def _rounded(x: Array, scale: Array, greatest: int) -> Array:
  safe = jnp.where(scale > 0, scale, 1)
  return jnp.clip(jnp.round(x / safe), -greatest, greatest).astype(jnp.int8)


def _values(values: Array, scale: Array, axis: int, name: str) -> Array:
  if name == "int8":
    return values * jnp.expand_dims(scale, axis)
  halves = jnp.stack([values & 15, values >> 4], 1).astype(jnp.int8)
  signed = jnp.where(halves > 7, halves - 16, halves)
  grouped = signed.reshape(len(scale), GROUP, -1)
  found = (grouped * scale[:, None]).reshape(-1, scale.shape[-1])
  return found if axis == 0 else found.T
