"""Activation functions by name."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def _gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415) with `erf`.

  `jax.nn.gelu` uses `erfc`, which costs twice as much and is only more
  accurate where the result is close to zero.
  """
  return x * (0.5 + 0.5 * jax.lax.erf(x * 0.5**0.5))


def _in_float32(function: Callable[[Array], Array]) -> Activation:
  """Computes a function in float32; the result has the input's dtype.

  Chips without bfloat16 arithmetic would convert at every operation.
  """
  return lambda x: function(x.astype(jnp.float32)).astype(x.dtype)


ACTIVATIONS: Mapping[str, Activation] = {
  "gelu": _in_float32(_gelu),
  "gelu_tanh": _in_float32(functools.partial(jax.nn.gelu, approximate=True)),
  "identity": lambda x: x,
  "leaky_relu": jax.nn.leaky_relu,
  "mish": _in_float32(jax.nn.mish),
  "quick_gelu": _in_float32(lambda x: x * jax.nn.sigmoid(1.702 * x)),
  "relu": jax.nn.relu,
  "relu2": lambda x: jnp.square(jax.nn.relu(x)),
  "relu6": jax.nn.relu6,
  "sigmoid": _in_float32(jax.nn.sigmoid),
  "silu": _in_float32(jax.nn.silu),
  "tanh": jnp.tanh,
}
"""The activation functions of encoders and heads."""

TORCH: Mapping[str, str] = {
  "GELU": "gelu",
  "Identity": "identity",
  "LeakyReLU": "leaky_relu",
  "Mish": "mish",
  "ReLU": "relu",
  "ReLU6": "relu6",
  "Sigmoid": "sigmoid",
  "SiLU": "silu",
  "Tanh": "tanh",
}
"""Classes in `torch.nn`, and the names of the same functions here."""
