"""The encoder as ONNX nodes: ids to the vectors of tokens."""

import dataclasses

from bert_jax.export.onnx import layers
from bert_jax.export.onnx.attention import Attention
from bert_jax.export.onnx.graph import Graph
from bert_jax.models.config import EncoderConfig


@dataclasses.dataclass(frozen=True)
class Tokens:
  """The inputs of the encoder, with one axis of rows.

  Attributes:
    ids: int64 [rows, length].
    used: bool [rows, length], whether a token is no padding.
    segments: int64 [rows, length]; None where the encoder has none.
  """

  ids: str
  used: str
  segments: str | None

  def positions(self, graph: Graph) -> str:
    """int64 [rows, length], counted over the tokens that are no padding."""
    used = graph.cast(self.used, "int64")
    count = graph.op("CumSum", used, graph.constant(1, "int64"))
    one, zero = (graph.constant(x, "int64") for x in (1, 0))
    return graph.op("Max", graph.op("Sub", count, one), zero)


def encode(
  graph: Graph,
  config: EncoderConfig,
  params: layers.Params,
  tokens: Tokens,
  is_fused: bool = False,
) -> str:
  """The vectors of tokens, float32 [rows, length, hidden].

  Args:
    graph: gets the nodes and weights.
    config: the encoder's configuration.
    params: of `models.encoder.Encoder`.
    tokens: the inputs.
    is_fused: whether attention is one operator of ONNX Runtime.
  """
  with graph.scope("embeddings"):
    x = _embed(graph, config, params["embeddings"], tokens)
  attention = Attention(graph, config, params["embeddings"], tokens, is_fused)
  for index in range(config.num_layers):
    name = f"encoder/layer_{config.distinct_layer(index)}"
    own = params[name.removeprefix("encoder/")]
    with graph.scope(f"layer_{index}"):
      x = _layer(graph, config, name, own, x, attention, index)
  if config.pre_norm:
    x = layers.config_norm(
      graph, x, "encoder/final_norm", params["final_norm"], config
    )
  return x


def _embed(
  graph: Graph, config: EncoderConfig, params: layers.Params, tokens: Tokens
) -> str:
  name = "encoder/embeddings"
  word = params["word"]["embedding"][: config.vocab_size]
  x = graph.op("Gather", graph.weight(f"{name}/word", word), tokens.ids)
  # The only segment of RoBERTa is that of every token.
  segments = params["segment"]["embedding"] if config.num_segments else None
  if config.has_position_embedding:
    table = params["position"]["embedding"][config.position_offset :]
    if config.num_segments == 1:
      table, segments = table + segments[0], None
    table = graph.weight(f"{name}/position", table)
    x = graph.op("Add", x, graph.op("Gather", table, tokens.positions(graph)))
  if segments is not None and tokens.segments is None:
    x = graph.op("Add", x, graph.weight(f"{name}/segment", segments[0]))
  elif segments is not None:
    table = graph.weight(f"{name}/segment", segments)
    last = graph.constant(config.num_segments - 1, "int64")
    ids = graph.op("Min", tokens.segments, last)
    x = graph.op("Add", x, graph.op("Gather", table, ids))
  x = layers.config_norm(graph, x, f"{name}/norm", params["norm"], config)
  if config.embedding_size:
    x = layers.layer(graph, x, f"{name}/projection", params["projection"])
  return x


def _layer(
  graph: Graph,
  config: EncoderConfig,
  name: str,
  params: layers.Params,
  x: str,
  attention: Attention,
  index: int,
) -> str:
  def norm(x: str, kind: str) -> str:
    return layers.config_norm(graph, x, f"{name}/{kind}", params[kind], config)

  y = norm(x, "attention_norm") if config.pre_norm and index else x
  is_local = bool(config.local_window and index % config.global_every)
  with graph.scope("attention"):
    y = attention(y, f"{name}/attention", params["attention"], is_local)
  x = graph.op("Add", y, x)
  with graph.scope("feed_forward"):
    own, path = params["feed_forward"], f"{name}/feed_forward"
    if config.pre_norm:
      y = norm(x, "feed_forward_norm")
      y = _feed_forward(graph, config, path, own, y)
      return graph.op("Add", y, x)
    x = norm(x, "attention_norm")
    y = _feed_forward(graph, config, path, own, x)
    return norm(graph.op("Add", y, x), "feed_forward_norm")


def _feed_forward(
  graph: Graph, config: EncoderConfig, name: str, params: layers.Params, x: str
) -> str:
  y = layers.layer(graph, x, f"{name}/intermediate", params["intermediate"])
  y = layers.activation(graph, y, config.activation)
  if config.gated:
    gate = layers.layer(graph, x, f"{name}/gate", params["gate"])
    y = graph.op("Mul", y, gate)
  return layers.layer(graph, y, f"{name}/output", params["output"])
