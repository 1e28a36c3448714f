"""Heads as ONNX nodes: the vectors of tokens to the outputs of a task."""

from collections.abc import Callable, Sequence
from typing import Any

from bert_jax.export.onnx import layers
from bert_jax.export.onnx.encoder import Tokens
from bert_jax.export.onnx.graph import Graph
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig

# The epsilon of `VectorHead`, PyTorch's.
_NORM_EPSILON = 1e-5
# Of `max` pooling, where nothing is pooled.
_LOWEST = -1e9
_IMPOSSIBLE = -1e30


class Encoded:
  """An encoded batch, the input of heads; see `models.heads.Encoded`.

  Attributes:
    graph: gets the nodes and weights.
    config: the encoder's configuration.
    tokens: the inputs of the encoder.
    hidden: float32 [rows, length, hidden].
    params: of the heads of a task; those of the encoder under `encoder`.
    prefix: begins the names of the heads' weights.
    skipped: int64 [rows], the number of tokens at the start of each row that
      are not pooled into vectors; None for none.
    masked: int64 [rows, predictions], the positions of masks; None for none.
  """

  def __init__(
    self,
    graph: Graph,
    config: EncoderConfig,
    tokens: Tokens,
    hidden: str,
    params: layers.Params,
    prefix: str = "",
    skipped: str | None = None,
    masked: str | None = None,
  ):
    self.graph, self.config, self.tokens = graph, config, tokens
    self.hidden, self.params, self.prefix = hidden, params, prefix
    self.skipped, self.masked = skipped, masked

  def pooled(self) -> str:
    """The output of the pooler, [rows, hidden]."""
    graph, config = self.graph, self.config
    mode = {"first": "cls", "last": "lasttoken"}.get(config.pooling, "mean")
    x = pool(graph, self.hidden, self.tokens.used, [mode])
    return self.transform(
      x,
      "pooler",
      config.pooler_activation,
      config.head_norm,
      config.pooler_projection,
    )

  def transformed(self) -> str:
    """The output of the shared transform, [rows, length, hidden]."""
    config = self.config
    activation = config.activation
    if config.head_norm:
      activation = config.head_activation or activation
    return self.transform(
      self.hidden, "transform", activation, config.head_norm
    )

  def transform(
    self,
    x: str,
    name: str,
    activation: str,
    has_norm: bool,
    has_dense: bool = True,
    params: layers.Params | None = None,
  ) -> str:
    """`models.heads.Transform`, with its parameters or those of this name."""
    graph = self.graph
    params = self.params.get(name, {}) if params is None else params
    path = f"{self.prefix}{name}"
    if has_dense:
      x = layers.layer(graph, x, f"{path}/dense", params["dense"])
    x = layers.activation(graph, x, activation)
    if has_norm:
      own = params["norm"]
      x = layers.config_norm(graph, x, f"{path}/norm", own, self.config)
    return x


def write(encoded: Encoded, name: str, head: Any) -> tuple[str, list[Any]]:
  """Adds a head.

  Returns:
    Its output, float32, and the axes of the output after that of rows.
  """
  params = encoded.params.get(name, {})
  for kind, writer in _WRITERS:
    if isinstance(head, kind):
      with encoded.graph.scope(name):
        return writer(encoded, name, head, params)
  raise AssertionError(f"the head {type(head).__name__} has no ONNX nodes")


def _layer(encoded: Encoded, x: str, name: str, params: layers.Params) -> str:
  return layers.layer(encoded.graph, x, f"{encoded.prefix}{name}", params)


def _sequence(encoded, name, head, params):
  y = _layer(encoded, encoded.pooled(), name, params)
  return y, [head.features]


def _next_sentence(encoded, name, head, params):
  # Of one sequence in each row.
  y = _layer(encoded, encoded.pooled(), name, params)
  return encoded.graph.op("Unsqueeze", y, encoded.graph.ints(1)), [1, 2]


def _token(encoded, name, head, params):
  x = encoded.hidden
  if head.has_transform or encoded.config.head_norm:
    x = encoded.transformed()
  return _layer(encoded, x, name, params), ["length", head.features]


def _hidden(encoded, name, head, params):
  del name, head, params
  return encoded.hidden, ["length", encoded.config.hidden_size]


def _masked(encoded, name, head, params):
  graph = encoded.graph
  rows = graph.range(graph.size(encoded.hidden, 0))
  length = graph.op("Squeeze", graph.size(encoded.hidden, 1), graph.ints(0))
  starts = graph.op("Unsqueeze", graph.op("Mul", rows, length), graph.ints(1))
  places = graph.op("Add", encoded.masked, starts)
  flat = graph.reshape(encoded.hidden, -1, encoded.config.hidden_size)
  x = graph.op("Gather", flat, places)
  y, bias = _vocabulary(encoded, x, name, params)
  return graph.op("Add", y, bias), ["predictions", encoded.config.vocab_size]


def _vocabulary(
  encoded: Encoded, x: str, name: str, params: layers.Params
) -> tuple[str, str]:
  """The logits of a masked-LM head before the bias, and the bias.

  Without rows that only pad the vocabulary.
  """
  graph, config = encoded.graph, encoded.config
  activation = config.head_activation or config.activation
  x = encoded.transform(
    x, f"{name}/transform", activation, True, params=params["transform"]
  )
  path, tokens = f"{encoded.prefix}{name}", config.vocab_size
  if config.tied_decoder:
    embedding = encoded.params["encoder"]["embeddings"]["word"]["embedding"]
    decoder = graph.weight("encoder/embeddings/word", embedding[:tokens])
  else:
    decoder = graph.weight(f"{path}/decoder", params["decoder"][:tokens])
  y = graph.op("MatMul", x, graph.op("Transpose", decoder, perm=[1, 0]))
  bias = graph.weight(f"{path}/bias", params["bias"][:tokens])
  return y, bias


def sparse(encoded: Encoded, name: str) -> str:
  """`max log(1 + relu(logits))` over the tokens of each row, [rows, tokens].

  SPLADE (Formal et al. 2021, arXiv:2109.10086), of a masked-LM head.
  """
  graph = encoded.graph
  with graph.scope("sparse"):
    own = encoded.params[name]
    logits, bias = _vocabulary(encoded, encoded.hidden, name, own)
    used = graph.op("Unsqueeze", encoded.tokens.used, graph.ints(2))
    logits = graph.op("Where", used, logits, graph.scalar(_IMPOSSIBLE))
    # What follows is monotonic, so the largest logits are enough.
    largest = graph.op("ReduceMax", logits, graph.ints(1), keepdims=0)
    largest = graph.op("Relu", graph.op("Add", largest, bias))
    return graph.op("Log", graph.op("Add", largest, graph.scalar(1)))


def _vectors(encoded, name, head, params):
  graph = encoded.graph
  x = pool(
    graph, encoded.hidden, encoded.tokens.used, head.pooling, encoded.skipped
  )
  width = encoded.config.hidden_size * len(head.pooling)
  for index, module in enumerate(head.modules):
    own = f"{module.kind}_{index}"
    path = f"{encoded.prefix}{name}/{own}"
    if module.kind == "normalize":
      x = unit(graph, x)
    elif module.kind == "layer_norm":
      x = layers.norm(graph, x, path, params[own], _NORM_EPSILON)
    else:
      x = layers.layer(graph, x, path, params[own])
      x = layers.activation(graph, x, module.activation)
      width = module.features
  return x, [width]


def unit(graph: Graph, x: str) -> str:
  """`models.pooling.unit`: vectors scaled to length 1; zeros stay."""
  squares = graph.op(
    "ReduceSum", graph.op("Mul", x, x), graph.ints(-1), keepdims=1
  )
  squares = graph.op("Max", squares, graph.scalar(1e-24))
  return graph.op("Div", x, graph.op("Sqrt", squares))


def pool(
  graph: Graph,
  hidden: str,
  used: str,
  modes: Sequence[str],
  skipped: str | None = None,
) -> str:
  """`models.pooling.pool_tokens`, [rows, width].

  Args:
    graph: gets the nodes.
    hidden: float32 [rows, length, hidden].
    used: bool [rows, length], whether a token is no padding.
    modes: of `models.pooling.MODES`.
    skipped: int64 [rows], the number of tokens at the start of each row that
      are left out; None for none.
  """
  if skipped is not None:
    places = graph.range(graph.size(used, 1))
    start = graph.op("Unsqueeze", skipped, graph.ints(1))
    kept = graph.op("GreaterOrEqual", places, start)
    used = graph.op("And", used, kept)
  pooled = [
    _MODES[mode](graph, hidden, used, skipped is not None) for mode in modes
  ]
  return graph.op("Concat", *pooled, axis=-1) if pooled[1:] else pooled[0]


def _first(graph: Graph, hidden: str, used: str, skips: bool) -> str:
  if not skips:
    return graph.op("Gather", hidden, graph.constant(0, "int64"), axis=1)
  first = graph.op("ArgMax", graph.cast(used, "float32"), axis=1, keepdims=0)
  return _at(graph, hidden, first)


def _last(graph: Graph, hidden: str, used: str, skips: bool) -> str:
  places = graph.range(graph.size(used, 1))
  places = graph.op("Where", used, places, graph.constant(0, "int64"))
  last = graph.op("ReduceMax", places, graph.ints(1), keepdims=0)
  return _at(graph, hidden, last)


def _at(graph: Graph, hidden: str, places: str) -> str:
  """The vector of each row at a place, int64 [rows]."""
  places = graph.op("Unsqueeze", places, graph.ints(1))
  return graph.op("GatherND", hidden, places, batch_dims=1)


def _largest(graph: Graph, hidden: str, used: str, skips: bool) -> str:
  used = graph.op("Unsqueeze", used, graph.ints(2))
  x = graph.op("Where", used, hidden, graph.scalar(_LOWEST))
  return graph.op("ReduceMax", x, graph.ints(1), keepdims=0)


def _mean(graph: Graph, hidden: str, used: str, skips: bool) -> str:
  weights = graph.cast(used, "float32")
  return _over(graph, _sum(graph, hidden, weights), _total(graph, weights))


def _root_mean(graph: Graph, hidden: str, used: str, skips: bool) -> str:
  weights = graph.cast(used, "float32")
  total = graph.op("Max", _total(graph, weights), graph.scalar(1))
  return _over(graph, _sum(graph, hidden, weights), graph.op("Sqrt", total))


def _weighted_mean(graph: Graph, hidden: str, used: str, skips: bool) -> str:
  places = graph.cast(graph.range(graph.size(used, 1)), "float32")
  places = graph.op("Add", places, graph.scalar(1))
  weights = graph.op("Mul", graph.cast(used, "float32"), places)
  return _over(graph, _sum(graph, hidden, weights), _total(graph, weights))


def _sum(graph: Graph, hidden: str, weights: str) -> str:
  """The weighted sum of each row's vectors, [rows, hidden]."""
  weights = graph.op("Unsqueeze", weights, graph.ints(1))
  total = graph.op("MatMul", weights, hidden)
  return graph.op("Squeeze", total, graph.ints(1))


def _total(graph: Graph, weights: str) -> str:
  return graph.op("ReduceSum", weights, graph.ints(1), keepdims=1)


def _over(graph: Graph, x: str, total: str) -> str:
  return graph.op("Div", x, graph.op("Max", total, graph.scalar(1)))


_MODES: dict[str, Callable[[Graph, str, str, bool], str]] = {
  "cls": _first,
  "max": _largest,
  "mean": _mean,
  "mean_sqrt_len_tokens": _root_mean,
  "weightedmean": _weighted_mean,
  "lasttoken": _last,
}

# The first class that a head is an instance of.
_WRITERS = (
  (heads.SequenceHead, _sequence),
  (heads.NextSentenceHead, _next_sentence),
  (heads.TokenHead, _token),
  (heads.HiddenStates, _hidden),
  (heads.MaskedLanguageHead, _masked),
  (heads.VectorHead, _vectors),
)
