"""Dense layers, norms and activations as ONNX nodes."""

from collections.abc import Callable, Mapping
from typing import Any

from bert_jax.export.onnx.graph import Graph
from bert_jax.export.parts import Params
from bert_jax.models.config import EncoderConfig


def dense(graph: Graph, x: str, name: str, kernel: Any, bias: Any) -> str:
  """`x @ kernel + bias`; the bias may be None.

  Args:
    graph: gets the nodes and weights.
    x: float32 [..., width].
    name: of the weights, `NAME/kernel` and `NAME/bias`.
    kernel: [width, features].
    bias: [features].
  """
  y = graph.op("MatMul", x, graph.weight(f"{name}/kernel", kernel))
  if bias is None:
    return y
  return graph.op("Add", y, graph.weight(f"{name}/bias", bias))


def layer(graph: Graph, x: str, name: str, params: Params) -> str:
  """A dense layer of a module's parameters."""
  return dense(graph, x, name, params["kernel"], params.get("bias"))


def norm(
  graph: Graph, x: str, name: str, params: Params, epsilon: float
) -> str:
  """Layer normalization of the last axis; without a bias if it has none."""
  weights = [graph.weight(f"{name}/scale", params["scale"])]
  if "bias" in params:
    weights.append(graph.weight(f"{name}/bias", params["bias"]))
  return graph.op("LayerNormalization", x, *weights, axis=-1, epsilon=epsilon)


def config_norm(
  graph: Graph, x: str, name: str, params: Params, config: EncoderConfig
) -> str:
  """Layer normalization with the epsilon of the configuration."""
  return norm(graph, x, name, params, config.layer_norm_epsilon)


def activation(graph: Graph, x: str, name: str) -> str:
  """An activation of `models.activations.ACTIVATIONS`."""
  return _ACTIVATIONS[name](graph, x)


def _quick_gelu(graph: Graph, x: str) -> str:
  scaled = graph.op("Mul", x, graph.scalar(1.702))
  return graph.op("Mul", x, graph.op("Sigmoid", scaled))


def _relu2(graph: Graph, x: str) -> str:
  y = graph.op("Relu", x)
  return graph.op("Mul", y, y)


def _silu(graph: Graph, x: str) -> str:
  return graph.op("Mul", x, graph.op("Sigmoid", x))


_ACTIVATIONS: Mapping[str, Callable[[Graph, str], str]] = {
  "gelu": lambda graph, x: graph.op("Gelu", x),
  "gelu_tanh": lambda graph, x: graph.op("Gelu", x, approximate="tanh"),
  "identity": lambda graph, x: x,
  "leaky_relu": lambda graph, x: graph.op("LeakyRelu", x, alpha=0.01),
  "mish": lambda graph, x: graph.op("Mish", x),
  "quick_gelu": _quick_gelu,
  "relu": lambda graph, x: graph.op("Relu", x),
  "relu2": _relu2,
  "relu6": lambda graph, x: graph.op(
    "Clip", x, graph.scalar(0), graph.scalar(6)
  ),
  "sigmoid": lambda graph, x: graph.op("Sigmoid", x),
  "silu": _silu,
  "tanh": lambda graph, x: graph.op("Tanh", x),
}
