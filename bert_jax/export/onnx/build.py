"""From a task and its parameters to an ONNX model."""

import pathlib
from collections.abc import Iterator
from typing import Any

import onnx

from bert_jax import settings
from bert_jax.export.onnx import heads as onnx_heads
from bert_jax.export.onnx.encoder import Tokens, encode
from bert_jax.export.onnx.graph import Graph
from bert_jax.export.parts import Part, check_weights, parts
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.inputs.choices import Choices
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.tasks.targets.similarity import Similarity
from bert_jax.tasks.task import Task
from bert_jax.types import Parameters

RUNTIMES = ("standard", "onnxruntime")
"""`standard` has standard operators only, `onnxruntime` also some of ONNX
Runtime's own."""

# Smaller arrays stay in the model's file.
_SMALL = 1024


def build(
  task: Task, params: Parameters, runtime: str = "standard"
) -> onnx.ModelProto:
  """The model in ONNX, in float32, with dynamic numbers of rows and tokens.

  >>> model = build(task, params)
  >>> save(model, pathlib.Path("model.onnx"))

  Inputs, all int64:

    input_ids, attention_mask, token_type_ids: [batch, length]; of multiple
      choice alone [batch, choices, length]. Models without segments, or with
      one, have no `token_type_ids`.
    masked_positions: [batch, predictions], with a masked-LM head.
    skipped_tokens: [batch], the tokens of a prompt that are not pooled, where
      the model does not pool those.

  Outputs, all float32:

    the outputs of heads by their names, such as `classifier`; of a task with
      parts `PART/HEAD`. The rows of a vocabulary's padding are cut.
    token_embeddings: [batch, length, hidden], the last hidden states.
    sentence_embedding: [batch, width], with an embedding task: the vectors of
      texts, pooled, normalized and truncated as the task says.
    sparse_embedding: [batch, vocabulary], with a masked-LM head: see
      `heads.sparse`.

  Padding changes no result; the outputs of padding tokens are meaningless.

  Args:
    task: bound to its encoder.
    params: the parameters of its module.
    runtime: one of `RUNTIMES`.

  Raises:
    UserError: the runtime is unknown, or the model is an ensemble.
  """
  settings.choice("runtime", runtime, dict.fromkeys(RUNTIMES))
  config, made = task.config, parts(task, params)
  graph = Graph()
  only = made[0].task if len(made) == 1 else None
  has_choices = only is not None and isinstance(only.inputs, Choices)
  leading = ["batch", "choices"] if has_choices else ["batch"]
  tokens, rows = _inputs(graph, config, leading)
  with graph.scope("encoder"):
    encoder = made[0].params["encoder"]
    is_fused = runtime == "onnxruntime"
    hidden = encode(graph, config, encoder, tokens, is_fused)
  masked = skipped = None
  if any(_masked_head(part) for part in made):
    shape = ["batch", "predictions"]
    masked = graph.input("masked_positions", "int64", shape)
  if any(_skips(part.task) for part in made):
    skipped = graph.input("skipped_tokens", "int64", ["batch"])

  def output(name: str, value: str, axes: list[Any]) -> None:
    if has_choices:
      length = graph.size(tokens.ids, 1)
      sizes = (length if axis == "length" else axis for axis in axes)
      value = graph.reshape(value, *rows, *sizes)
    graph.output(name, value, "float32", [*leading, *axes])

  for part in made:
    encoded = onnx_heads.Encoded(
      graph,
      config,
      tokens,
      hidden,
      part.params,
      part.prefix,
      skipped if _skips(part.task) else None,
      masked,
    )
    for name, value, axes in _outputs(part, encoded):
      output(part.prefix + name, value, axes)
  output("token_embeddings", hidden, ["length", config.hidden_size])
  return graph.model()


def _inputs(
  graph: Graph, config: EncoderConfig, leading: list[str]
) -> tuple[Tokens, list[str]]:
  """Adds the inputs of the encoder.

  Returns:
    The inputs with one axis of rows, and the sizes of the leading axes.
  """
  names = ["input_ids", "attention_mask"]
  if config.num_segments > 1:
    names.append("token_type_ids")
  values = [graph.input(x, "int64", [*leading, "length"]) for x in names]
  rows = [graph.size(values[0], axis) for axis in range(len(leading))]
  if len(leading) > 1:
    length = graph.size(values[0], len(leading))
    values = [graph.reshape(value, -1, length) for value in values]
  ids, mask, *segments = values
  used = graph.op("Greater", mask, graph.constant(0, "int64"))
  return Tokens(ids, used, segments[0] if segments else None), rows


def _outputs(
  part: Part, encoded: onnx_heads.Encoded
) -> Iterator[tuple[str, str, list[Any]]]:
  """The outputs of a part: names, values, axes after those of rows."""
  for name, head in part.heads.items():
    value, axes = onnx_heads.write(encoded, name, head)
    # The hidden states are `token_embeddings`.
    if not isinstance(head, heads.HiddenStates):
      yield name, value, axes
    if isinstance(head, heads.MaskedLanguageHead):
      sparse = onnx_heads.sparse(encoded, name)
      yield "sparse_embedding", sparse, [encoded.config.vocab_size]
  for name, target in part.task.targets.items():
    if isinstance(target, Similarity):
      head = part.heads[part.task.head_names[name]]
      value = _vectors(encoded, target, part.task.head_names[name], head)
      yield "sentence_embedding", value, [target.width(encoded.config)]


def _vectors(
  encoded: onnx_heads.Encoded, target: Similarity, name: str, head: Any
) -> str:
  graph = encoded.graph
  if target.modules:
    x, _ = onnx_heads.write(encoded, name, head)
  else:
    used = encoded.tokens.used
    x = onnx_heads.pool(
      graph, encoded.hidden, used, target.modes, encoded.skipped
    )
  x = onnx_heads.unit(graph, x) if target.normalize else x
  if target.truncate_dim:
    stop = graph.ints(target.truncate_dim)
    x = graph.slice(x, graph.ints(0), stop, axis=1)
  return x


def describe(model: onnx.ModelProto) -> dict[str, list[dict[str, Any]]]:
  """The `inputs` and `outputs` of a manifest: name, dtype, shape."""
  return {
    key: [
      {
        "name": value.name,
        "dtype": onnx.helper.tensor_dtype_to_np_dtype(
          value.type.tensor_type.elem_type
        ).name,
        "shape": [
          size.dim_param or size.dim_value
          for size in value.type.tensor_type.shape.dim
        ],
      }
      for value in values
    ]
    for key, values in (
      ("inputs", model.graph.input),
      ("outputs", model.graph.output),
    )
  }


def _masked_head(part: Part) -> bool:
  found = part.heads.values()
  return any(isinstance(head, heads.MaskedLanguageHead) for head in found)


def _skips(task: Task) -> bool:
  """Whether the tokens of a prompt are not pooled."""
  return isinstance(task.inputs, Pairs) and not task.inputs.include_prompt


def save(
  model: onnx.ModelProto, path: pathlib.Path, weights: str = "beside"
) -> list[str]:
  """Writes a model to a file.

  ONNX Runtime maps weights `beside` the graph into memory, instead of reading a
  copy of them: MiniLM, whose weights have 90 MB, takes 55 MB less.

  Args:
    model: the model.
    path: the file.
    weights: `beside` the graph, in a second file with `.data` at the end of its
      name, which the first one refers to; or `inside` of it.

  Returns:
    The names of the files.

  Raises:
    UserError: the weights are too large to be inside.
  """
  size = sum(len(weight.raw_data) for weight in model.graph.initializer)
  check_weights(weights, size)
  if weights == "inside":
    onnx.save(model, path)
    return [path.name]
  data = path.with_name(f"{path.name}.data")
  onnx.save(
    model,
    path,
    save_as_external_data=True,
    location=data.name,
    size_threshold=_SMALL,
  )
  # Which took the weights out of the model.
  onnx.load_external_data_for_model(model, str(path.parent))
  # The file was made for its owner alone.
  data.chmod(path.stat().st_mode)
  return [path.name, data.name]
