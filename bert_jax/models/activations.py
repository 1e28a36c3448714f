"""Activation functions by name."""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from bert_jax.models.activation_names import NAMES

Activation = Callable[[Float[Array, "..."]], Float[Array, "..."]]


def _gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """GELU (Hendrycks and Gimpel 2016, arXiv:1606.08415) with `erf`.

  `jax.nn.gelu` uses `erfc`, which costs twice as much and is only more
  accurate where the result is close to zero.
  """
  erf = _polynomial_erf if _without_erf.get() else jax.lax.erf
  return x * (0.5 + 0.5 * erf(x * 0.5**0.5))


_without_erf = contextvars.ContextVar("_without_erf", default=False)


@contextlib.contextmanager
def without_erf() -> Iterator[None]:
  """Traces `erf` as arithmetic, for programs that TensorFlow is to read.

  JAX lowers `jax.lax.erf` to a composite operation, which TensorFlow 2.21 does
  not know.
  """
  token = _without_erf.set(True)
  try:
    yield
  finally:
    _without_erf.reset(token)


def _polynomial_erf(x: Float[Array, "..."]) -> Float[Array, "..."]:
  """`erf` in float32 by the quotient of polynomials that XLA uses."""
  # From here on, the nearest float32 number is 1.
  x = jnp.clip(x, -3.832506856900711, 3.832506856900711)
  numerator = (
    0.00022905065861350646,
    0.0034082910107109506,
    0.050955695062380861,
    0.18520832239976145,
    1.128379143519084,
  )
  denominator = (
    -1.1791602954361697e-7,
    0.000023547966471313185,
    0.0010179625278914885,
    0.014070470171167667,
    0.11098505178285362,
    0.49746925110067538,
    1.0,
  )
  above, below = (
    functools.reduce(lambda sum, term: sum * x * x + term, terms)
    for terms in (numerator, denominator)
  )
  return x * above / below


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

assert tuple(ACTIVATIONS) == NAMES
