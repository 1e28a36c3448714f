"""Models with weights of 8 bits."""

import functools

import numpy as np

from bert_jax.engines.onnx import OnnxForward
from bert_jax.export import onnx as export
from bert_jax.export.onnx import bits
from tests import pytrees, small
from tests.errors import user_error
from tests.tasks import cases

WORDS = small.WORDS.replace("[ ] mask", "").split()
RECORDS = [
  {"text": " ".join(np.roll(WORDS, number)[: 3 + number % 9])}
  for number in range(24)
]


@functools.cache
def forwards(name):
  """A model in float32 and in 8 bits."""
  task = cases.task(name)
  params = pytrees.of_task(task)
  made = export.build(task, params, "onnxruntime")
  models = made, export.quantize(made)
  return task, [OnnxForward(x.SerializeToString(), task) for x in models]


def test_dense_layers_have_8_bits():
  task = cases.task("classification")
  made = export.build(task, pytrees.of_task(task), "onnxruntime")
  small = export.quantize(made)
  kernels = {x.name for x in made.graph.initializer if "kernel" in x.name}
  names = {x.name: x.data_type for x in small.graph.initializer}
  assert kernels and not kernels & names.keys()
  assert {f"{name}/numbers" for name in kernels} <= names.keys()
  assert "encoder/embeddings/word" in names
  kinds = [node.op_type for node in small.graph.node]
  assert kinds.count("MatMulNBits") == len(kernels)
  # What is not of a dense layer is as it was.
  assert kinds.count("MatMul") == 0


def test_vectors_are_measured(monkeypatch):
  task, (exact, quantized) = forwards("embedding")
  monkeypatch.setattr(bits, "MIN_COSINE", 0.9)
  monkeypatch.setattr(bits, "MIN_OVERLAP", 0.5)
  found = export.measure_bits(exact, quantized, task, RECORDS)
  assert 0.9 < found["min_cosine"] < 1
  assert 0.5 < found["top_10_overlap"] <= 1
  assert found["batch_difference"] < 1e-6
  same = export.measure_bits(exact, exact, task, RECORDS)
  assert same["min_cosine"] > 1 - 1e-6 and same["top_10_overlap"] == 1


def test_a_model_that_is_too_far_is_refused():
  task, (exact, _) = forwards("embedding")
  other = export.build(task, pytrees.of_task(task, seed=1), "onnxruntime")
  other = OnnxForward(other.SerializeToString(), task)
  with user_error("min_cosine is .* expected a cosine"):
    export.measure_bits(exact, other, task, RECORDS)
  with user_error("expected at least 20 texts to measure on, got 3"):
    export.measure_bits(exact, exact, task, RECORDS[:3])


def test_answers_are_measured():
  task, (exact, quantized) = forwards("tagging")
  found = export.measure_bits(exact, quantized, task, RECORDS)
  assert 0 < found["largest_change"] < 0.2
  assert 0.5 < found["equal_answers"] <= 1
  same = export.measure_bits(exact, exact, task, RECORDS)
  assert same == {"largest_change": 0, "equal_answers": 1}
