"""The names of activation functions; `activations` computes them."""

from collections.abc import Mapping

NAMES = (
  "gelu",
  "gelu_tanh",
  "identity",
  "leaky_relu",
  "mish",
  "quick_gelu",
  "relu",
  "relu2",
  "relu6",
  "sigmoid",
  "silu",
  "tanh",
)
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
