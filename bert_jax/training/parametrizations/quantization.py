"""Quantization-aware training (Jacob et al. 2018, arXiv:1712.05877).

The model is applied with the values that its parameters have in 8 or 4 bits, so
that it learns to be good with these. Gradients pass the rounding as if it were
not there: the straight-through estimator (Bengio et al. 2013, arXiv:1308.3432).
"""

import dataclasses
from typing import Any

import jax

from bert_jax import settings, trees
from bert_jax.models import quantization
from bert_jax.models.config import EncoderConfig
from bert_jax.training.parametrizations.parametrization import Parametrization
from bert_jax.types import Parameters


@dataclasses.dataclass(frozen=True)
class QuantizationConfig:
  """The section `config.quantization`; by default nothing is rounded.

  Attributes:
    bits: 8 or 4 for kernels and embeddings that are rounded to these bits in
      every forward pass, as `bert-jax compress --bits` stores them; 0 leaves
      them as they are.
  """

  bits: int = 0

  def __post_init__(self):
    known = (0, *quantization.BITS)
    settings.check(self, "0, 8 or 4", known.__contains__, "bits")

  def parametrization(self, encoder: EncoderConfig) -> "Quantization | None":
    """The rounding, if there is any."""
    del encoder
    return Quantization(self.bits) if self.bits else None


class Quantization(Parametrization):
  """Rounds kernels and embeddings; without parameters of its own."""

  name = "quantization"

  def __init__(self, bits: int):
    """Rounds to 8 or 4 bits."""
    self._bits = bits

  def shapes(self, params: Parameters) -> Parameters:
    """None."""
    del params
    return {}

  def merge(
    self, params: Parameters, own: Parameters, key: Any = None
  ) -> Parameters:
    """The values of `quantization.dequantize`, bit for bit."""
    del own, key
    stored = quantization.quantize(params, self._bits)
    rounded = trees.flatten(quantization.dequantize(stored))

    def of(path: str, x: Any) -> Any:
      if not quantization.is_quantizable(path, x):
        return x
      # The difference is 0, and has the gradient.
      return jax.lax.stop_gradient(rounded[path]) + (
        x - jax.lax.stop_gradient(x)
      )

    return trees.map_with_path(of, params)
