"""The model card of an export: what it is, and how to run it."""

from collections.abc import Mapping
from typing import Any

from bert_jax.tasks.targets.labels import LabelledTarget
from bert_jax.tasks.task import Task

NAME = "README.md"

_LABELS = 100
_TITLES = {
  "onnx": "an ONNX file",
  "stablehlo": "a StableHLO program",
  "savedmodel": "a TensorFlow SavedModel",
  "tflite": "a TFLite (LiteRT) file",
  "huggingface": "a Hugging Face folder",
}
_MEANINGS = {
  "input_ids": "token ids, with special tokens",
  "attention_mask": "1 for tokens, 0 for padding",
  "token_type_ids": "1 for the second text of a pair, else 0",
  "masked_positions": "the positions of the tokens to predict",
  "skipped_tokens": "the tokens at the start of a row that are not pooled",
  "token_embeddings": "the last hidden states",
  "sentence_embedding": "the vector of the text",
  "sparse_embedding": "the maximum over tokens of log(1 + relu(logits))",
}


def text(name: str, task: Task, about: Mapping[str, Any]) -> str:
  """The card, in Markdown.

  Args:
    name: of the model.
    task: that was exported.
    about: its manifest.
  """
  config, kind = task.config, about["kind"]
  parts = [
    f"# {name}",
    f"A {config.family} encoder for the task `{task.name}`, as"
    f" {_TITLES[kind]}. It has {config.num_layers} layers of width"
    f" {config.hidden_size} and a vocabulary of {config.vocab_size} tokens, and"
    f" takes rows of at most {task.inputs.limit(config)} tokens.",
    *_tables(about),
    *_labels(task),
    "## With bert_jax",
    _with_bert_jax(kind),
    "## Without bert_jax",
    _without(about),
    "## Checks",
    _checks(about),
  ]
  return "\n\n".join(parts) + "\n"


def _tables(about: Mapping[str, Any]) -> list[str]:
  found = []
  for key in ("inputs", "outputs"):
    entries = about.get(key)
    if not entries:
      continue
    rows = [
      f"| `{x['name']}` | {x['dtype']} | [{', '.join(map(str, x['shape']))}] |"
      f" {_MEANINGS.get(x['name'], 'logits' if key == 'outputs' else '')} |"
      for x in entries
    ]
    head = "| name | dtype | shape | |\n| --- | --- | --- | --- |"
    found += [f"## {key.capitalize()}", "\n".join([head, *rows])]
  return found


def _labels(task: Task) -> list[str]:
  lines = []
  for part in (task, *task.parts.values()):
    for name, target in part.targets.items():
      if isinstance(target, LabelledTarget):
        names = [f"`{label}`" for label in target.names[:_LABELS]]
        more = len(target.names) - len(names)
        rest = f" and {more} more, in `manifest.json`" if more else ""
        where = f"{part.name}, {name}" if task.parts else name
        lines.append(f"- {where}: {', '.join(names)}{rest}")
  if not lines:
    return []
  head = "In the order of the outputs:"
  return ["## Labels", "\n".join([head, "", *lines])]


def _with_bert_jax(kind: str) -> str:
  if kind in ("savedmodel", "tflite"):
    return "Load the model that this was exported from: it answers the same."
  return _code(
    "import bert_jax",
    'model = bert_jax.load("FOLDER")',
    'answers = model(["A text."])',
  )


def _without(about: Mapping[str, Any]) -> str:
  kind, model = about["kind"], about.get("model")
  if kind == "huggingface":
    return _code(
      "from transformers import AutoModel, AutoTokenizer",
      'tokenizer = AutoTokenizer.from_pretrained("FOLDER")',
      'model = AutoModel.from_pretrained("FOLDER")',
    )
  inputs = about["inputs"]
  made = [
    "ids = np.array([[2, 5, 6, 3]])  # Of the tokenizer in this folder.",
    "inputs = {",
    *(f'  "{x["name"]}": {_example(x)},' for x in inputs),
    "}",
  ]
  if kind == "onnx":
    return _code(
      "import numpy as np, onnxruntime",
      f'session = onnxruntime.InferenceSession("{model}")',
      *made,
      "outputs = session.run(None, inputs)",
    )
  if kind == "stablehlo":
    weights = about.get("weights")
    return _code(
      "import jax, numpy as np",
      "from jax import export",
      *(["from safetensors.numpy import load_file"] if weights else []),
      f'data = open("{model}", "rb").read()',
      "program = export.deserialize(bytearray(data))",
      *made,
      "outputs = jax.jit(program.call)("
      + (f'load_file("{weights}"), ' if weights else "")
      + "inputs)",
    )
  if kind == "savedmodel":
    return _code(
      "import numpy as np, tensorflow as tf",
      f'model = tf.saved_model.load("{model}")',
      *made,
      'outputs = model.signatures["serving_default"](',
      "  **{name: tf.constant(x) for name, x in inputs.items()}",
      ")",
    )
  length = inputs[0]["shape"][-1]
  made[0] = f"ids = np.zeros((1, {length}))  # Of the tokenizer, padded by 0."
  return _code(
    "import numpy as np",
    "from ai_edge_litert.interpreter import Interpreter",
    f'run = Interpreter("{model}").get_signature_runner("serving_default")',
    *made,
    "outputs = run(**inputs)",
  )


def _example(entry: Mapping[str, Any]) -> str:
  """An expression for an input of one row with the ids `ids`."""
  name, dtype, axes = entry["name"], f"np.{entry['dtype']}", entry["shape"]
  if name == "masked_positions":
    return f"np.array([[1]], {dtype})"
  if name == "skipped_tokens":
    return f"np.array([0], {dtype})"
  values = {
    "input_ids": "ids",
    "attention_mask": "np.ones_like(ids)",
    "token_type_ids": "np.zeros_like(ids)",
  }[name]
  if len(axes) == 3:  # One choice.
    return f"{values}[None].astype({dtype})"
  return f"{values}.astype({dtype})"


def _checks(about: Mapping[str, Any]) -> str:
  lines = ["`bert-jax verify FOLDER` verifies the files by `manifest.json`."]
  difference = about.get("largest_difference")
  if difference is not None:
    lines.append(
      f"The largest difference from the outputs of JAX was {difference:.2g}"
      " when it was exported (relative to the largest value of an output, where"
      " that is above 1)."
    )
  for name, value in about.get("measured", {}).items():
    lines.append(
      f"With weights of {about['bits']} bits, {name} was {value:.4g} on the"
      " texts that it was measured on."
    )
  versions = (f"{name} {x}" for name, x in about["versions"].items())
  lines.append(f"Written with {', '.join(versions)}.")
  if about["kind"] == "stablehlo":
    lines.append(
      "JAX promises that later versions read a program for six months, and that"
      " versions of up to three weeks before read it."
    )
  return "\n".join(lines)


def _code(*lines: str) -> str:
  return "\n".join(["```python", *lines, "```"])
