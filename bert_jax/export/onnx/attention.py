"""Self-attention as ONNX nodes, with all kinds of positions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax.export.onnx import layers
from bert_jax.export.onnx.graph import CONTRIB, Graph
from bert_jax.models import attention
from bert_jax.models.config import EncoderConfig

if TYPE_CHECKING:
  from bert_jax.export.onnx.encoder import Tokens

# A score whose weight is 0; finite, so that rows without tokens are no NaN.
_IMPOSSIBLE = float(np.finfo(np.float32).min)


class Attention:
  """Self-attention of one batch; what all layers share is computed once.

  Padding tokens attend to the tokens of their row: their outputs are finite
  and meaningless.
  """

  def __init__(
    self,
    graph: Graph,
    config: EncoderConfig,
    params: layers.Params,
    tokens: "Tokens",
    is_fused: bool,
  ):
    """Adds no node yet.

    Args:
      graph: gets the nodes and weights.
      config: the encoder's configuration.
      params: of `models.layers.Embeddings`.
      tokens: the inputs of the encoder.
      is_fused: whether attention is one operator of ONNX Runtime.
    """
    self._graph, self._config, self._params = graph, config, params
    self._tokens, self._is_fused = tokens, is_fused
    self._length = graph.size(tokens.ids, 1)

  def __call__(
    self, x: str, name: str, params: layers.Params, is_local: bool
  ) -> str:
    """The attention of one layer with its output projection.

    Args:
      x: float32 [rows, length, hidden].
      name: of the layer's weights.
      params: of `models.layers.SelfAttention`.
      is_local: whether tokens see only those near by.
    """
    graph, config = self._graph, self._config
    depth = config.head_width
    heads = params["query"]["kernel"].shape[1] // depth  # Of this layer.
    # The scale of the scores is in the weights of queries.
    terms = 3 if config.disentangled else 1
    scale = np.float32((terms * depth) ** -0.5)
    query, key, value = (
      self._projected(x, f"{name}/{kind}", params[kind], factor)
      for kind, factor in (("query", scale), ("key", 1), ("value", 1))
    )
    if config.rotary_base:
      base = config.local_rotary_base if is_local else config.rotary_base
      query, key = (self._rotated(x, heads, base) for x in (query, key))
    extra = None
    if config.disentangled:
      by_head = (self._by_head(x) for x in (query, key))
      extra = self._disentangled(*by_head, name, params, scale)
    attend = self._fused if self._is_fused else self._attend
    mixed = attend(query, key, value, heads, is_local, extra)
    return layers.layer(graph, mixed, f"{name}/output", params["output"])

  def _projected(
    self, x: str, name: str, params: layers.Params, factor: float
  ) -> str:
    """Queries, keys or values times a factor, [rows, length, hidden]."""
    factor = np.float32(factor)
    scaled = {leaf: array * factor for leaf, array in params.items()}
    return layers.layer(self._graph, x, name, scaled)

  def _by_head(self, x: str) -> str:
    """From [rows, length, hidden] to [rows, heads, length, depth]."""
    x = self._graph.reshape(x, 0, 0, -1, self._config.head_width)
    return self._graph.op("Transpose", x, perm=[0, 2, 1, 3])

  def _attend(
    self,
    query: str,
    key: str,
    value: str,
    heads: int,
    is_local: bool,
    extra: str | None,
  ) -> str:
    """The weighted values, by standard operators.

    `extra` is added to the scores, [rows, heads, length, length].
    """
    graph = self._graph
    query, key, value = (self._by_head(x) for x in (query, key, value))
    scores = graph.op("MatMul", query, self._transposed(key))
    bias = self._masked(is_local)
    if extra is not None:
      scores = graph.op("Add", scores, extra)
    elif self._config.relative_buckets:
      bias = graph.op("Add", self._relative(), bias)
    scores = graph.op("Add", scores, bias)
    weights = graph.op("Softmax", scores, axis=-1)
    mixed = graph.op("MatMul", weights, value)
    mixed = graph.op("Transpose", mixed, perm=[0, 2, 1, 3])
    return graph.reshape(mixed, 0, 0, heads * self._config.head_width)

  def _fused(
    self,
    query: str,
    key: str,
    value: str,
    heads: int,
    is_local: bool,
    extra: str | None,
  ) -> str:
    """The same by one operator of ONNX Runtime."""
    graph = self._graph
    mask, bias = graph.cast(self._tokens.used, "int32"), extra or ""
    if is_local:
      mask, bias = "", self._masked(is_local)
    elif self._config.relative_buckets and not extra:
      bias = self._relative()
    return graph.op(
      "MultiHeadAttention",
      *(query, key, value, "", mask, bias),
      domain=CONTRIB,
      num_heads=heads,
      mask_filter_value=_IMPOSSIBLE,
      scale=1.0,
    )

  def _transposed(self, x: str) -> str:
    return self._graph.op("Transpose", x, perm=[0, 1, 3, 2])

  def _rotated(self, x: str, heads: int, base: float) -> str:
    """`models.attention.rotate` of [rows, length, heads * depth]."""
    graph, config = self._graph, self._config
    positions = self._tokens.positions(graph)
    names = (f"rotary/{base:g}/{kind}" for kind in ("cosine", "sine"))
    cosine, sine = (
      graph.op("Gather", graph.weight(name, table), positions)
      for name, table in zip(names, _rotary(config, base))
    )
    # For all heads.
    cosine, sine = (
      graph.op("Unsqueeze", x, graph.ints(2)) for x in (cosine, sine)
    )
    x = graph.reshape(x, 0, 0, heads, config.head_width)
    first, second = graph.ops("Split", x, count=2, axis=-1, num_outputs=2)
    turned = graph.op("Concat", graph.op("Neg", second), first, axis=-1)
    x = graph.op("Mul", x, cosine)
    x = graph.op("Add", x, graph.op("Mul", turned, sine))
    return graph.reshape(x, 0, 0, heads * config.head_width)

  def _masked(self, is_local: bool) -> str:
    """0 where a token is seen, [rows, 1, 1 or length, length]."""
    graph, config = self._graph, self._config
    seen = graph.op("Unsqueeze", self._tokens.used, graph.ints(1, 2))
    if is_local:
      near = graph.op(
        "LessOrEqual",
        graph.op("Abs", self._distances()),
        graph.constant(config.local_window // 2, "int64"),
      )
      seen = graph.op("And", seen, near)
    return graph.op("Where", seen, graph.scalar(0), graph.scalar(_IMPOSSIBLE))

  def _distances(self) -> str:
    """int64 [length, length]: the place of a key less that of a query."""
    graph = self._graph
    places = graph.range(self._length)
    return graph.op(
      "Sub",
      graph.op("Unsqueeze", places, graph.ints(0)),
      graph.op("Unsqueeze", places, graph.ints(1)),
    )

  def _relative(self) -> str:
    """The bias of MPNet, [1, heads, length, length]."""
    graph, config = self._graph, self._config
    buckets = attention.bias_buckets(
      config.max_positions, config.relative_buckets
    )
    table = self._params["relative"]["embedding"][buckets].T
    # Of the distances 1 - max_positions to max_positions.
    table = graph.weight("encoder/embeddings/relative", table)
    first = graph.constant(config.max_positions - 1, "int64")
    places = graph.op("Add", self._distances(), first)
    bias = graph.op("Gather", table, places, axis=1)
    return graph.op("Unsqueeze", bias, graph.ints(0))

  def _disentangled(
    self,
    query: str,
    key: str,
    name: str,
    params: layers.Params,
    scale: np.float32,
  ) -> str:
    """`models.attention.disentangled_bias`, [rows, heads, length, length]."""
    graph, config = self._graph, self._config
    table = normalized(self._params, config)

    def positions(kind: str, scale: np.float32) -> np.ndarray:
      own = params[kind]
      made = (table @ own["kernel"] + own.get("bias", 0)) * scale
      heads = made.reshape(len(table), config.num_heads, -1)
      return heads.transpose(1, 2, 0)  # [heads, depth, buckets]

    # Keys of positions go with queries, whose weights have the scale.
    keys = self._by_bucket(
      f"{name}/position_key", positions("key", np.float32(1)), sign=-1
    )
    queries = self._by_bucket(
      f"{name}/position_query", positions("query", scale), sign=1
    )
    of_keys = self._by_place(graph.op("MatMul", query, keys))
    of_queries = self._by_place(graph.op("MatMul", key, queries))
    return graph.op("Add", of_keys, self._transposed(of_queries))

  def _by_bucket(self, name: str, table: np.ndarray, sign: int) -> str:
    """[heads, depth, 2 * length], for the distances of `by_distance`."""
    graph, config = self._graph, self._config
    longest = config.max_positions
    distance = sign * np.arange(1 - longest, longest + 1)
    buckets = attention.embedding_buckets(
      distance, config.relative_buckets, longest
    )
    buckets = graph.constant(buckets, "int64")
    middle = graph.ints(longest)
    start = graph.op("Sub", middle, self._length)
    stop = graph.op("Add", middle, self._length)
    used = graph.slice(buckets, start, stop, axis=0)
    return graph.op("Gather", graph.weight(name, table), used, axis=2)

  def _by_place(self, x: str) -> str:
    """`models.attention.by_distance` of [rows, heads, length, 2 * length]."""
    graph, length = self._graph, self._length
    one = graph.ints(1)
    width = graph.op("Mul", length, graph.ints(2))
    flat = graph.reshape(x, 0, 0, -1)
    start = graph.op("Sub", length, one)
    less = graph.op("Sub", width, one)
    stop = graph.op("Add", start, graph.op("Mul", length, less))
    flat = graph.slice(flat, start, stop, axis=2)
    shifted = graph.reshape(flat, 0, 0, length, less)
    return graph.slice(shifted, graph.ints(0), length, axis=3)


def normalized(params: layers.Params, config: EncoderConfig) -> np.ndarray:
  """DeBERTa's normalized embeddings of buckets, [buckets, hidden]."""
  x = params["relative"]["embedding"].astype(np.float64)
  x = x - x.mean(-1, keepdims=True)
  x /= np.sqrt((x * x).mean(-1, keepdims=True) + config.layer_norm_epsilon)
  own = params["relative_norm"]
  return (x * own["scale"] + own.get("bias", 0)).astype(np.float32)


def _rotary(config: EncoderConfig, base: float) -> Sequence[np.ndarray]:
  """The cosines and sines of each position, [positions, depth]."""
  half = config.head_width // 2

  # Compiled as in the model, whose powers differ from those of NumPy.
  @jax.jit
  def tables():
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    return jnp.arange(config.max_positions)[:, None] * frequencies

  angles = np.asarray(tables(), np.float64)
  angles = np.concatenate([angles, angles], axis=-1)
  return np.cos(angles, dtype=np.float32), np.sin(angles, dtype=np.float32)
