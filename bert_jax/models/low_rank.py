"""Kernels with a low-rank product beside them (Hu et al. 2021).

Such a kernel is a dict in its place: `base`, which may be quantized, `a`
[width, rank] and `b` [rank, features]. It stands for base + a b, which each
program computes itself, so that several models can share one base.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from bert_jax import trees
from bert_jax.models import quantization
from bert_jax.types import Parameters

_PARTS = {"base", "a", "b"}


class LowRank(NamedTuple):
  """What is added to a kernel [width, features]: scale * a b.

  Attributes:
    a: from the input to the rank.
    b: from the rank to the output.
    scale: the factor of the product.
  """

  a: Float[np.ndarray, "width rank"]
  b: Float[np.ndarray, "rank features"]
  scale: float

  @property
  def shape(self) -> tuple[int, int]:
    """That of the kernel."""
    return self.a.shape[0], self.b.shape[1]


def attach(
  params: Parameters,
  products: Mapping[str, LowRank],
  others: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
  """The parameters, with products beside some kernels; none is copied.

  Args:
    params: a model's; they may be quantized.
    products: by the paths of their kernels.
    others: further parameters, or those that replace some, by path.
  """
  made = _copied(params)

  def parent(path: str) -> tuple[dict[str, Any], str]:
    *modules, name = path.split("/")
    node = made
    for module in modules:
      node = node.setdefault(module, {})
    return node, name

  for path, x in (others or {}).items():
    node, name = parent(path)
    node[name] = x
  for path, product in products.items():
    node, name = parent(path)
    b = np.float32(product.scale) * product.b
    node[name] = {"base": node[name], "a": product.a, "b": b}
  return made


def merged(params: Parameters) -> Parameters:
  """Float32 parameters, a single array each; may be traced."""
  given = trees.flatten(params)
  made = trees.flatten(quantization.dequantize(_base(params)))
  for path, a in given.items():
    kernel, _, leaf = path.rpartition("/")
    if leaf == "a":
      made[kernel] = made[kernel] + a @ given[f"{kernel}/b"]
  return trees.unflatten(made)


def is_plain(params: Parameters) -> bool:
  """Whether parameters have no products beside them, nor are quantized."""
  paths = trees.flatten(params)
  attached = any(path.endswith("/kernel/a") for path in paths)
  return not attached and not quantization.is_quantized(paths)


def _copied(params: Any) -> Any:
  """The same arrays in new dicts."""
  if not isinstance(params, Mapping):
    return params
  return {name: _copied(x) for name, x in params.items()}


def _base(params: Any) -> Any:
  """The parameters without the products."""
  if not isinstance(params, Mapping):
    return params
  if params.keys() == _PARTS:
    return params["base"]
  return {name: _base(x) for name, x in params.items()}
