"""StableHLO programs, beside JAX."""

import dataclasses

import numpy as np
import pytest

from bert_jax.engines.stablehlo import StableHloForward
from bert_jax.export import check, parts, stablehlo
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.tasks.multi_task import MultiTask
from bert_jax.tasks.targets.similarity import Similarity
from bert_jax.types import Batch
from tests import pytrees, small
from tests.errors import user_error
from tests.export.test_onnx import families
from tests.tasks import cases


def compare(task, weights="inside", platforms=("cpu",)):
  params = pytrees.of_task(task)
  program = stablehlo.build(task, params, weights, platforms)
  forward = StableHloForward(program.data, task, program.weights)
  found = check.compare(forward, "it", task, params, [7], compiled=False)
  assert found <= check.TOLERANCE
  return program, forward


# Families that use the number of tokens of a row, and the kinds of heads.
@pytest.mark.parametrize(
  ("family", "task", "weights"),
  [
    ("bert", "multiple_choice", "beside"),
    ("modernbert", "tagging", "inside"),
    ("mpnet", "classification", "beside"),
    ("deberta-v2", "pretraining", "inside"),
  ],
)
def test_a_model_is_as_in_jax(family, task, weights):
  layers = 2 if family == "modernbert" else 1  # One of each kind.
  config = dataclasses.replace(families()[family], num_layers=layers)
  compare(cases.task(task, config=config), weights)


def test_vectors_are_as_in_jax_on_all_platforms():
  inputs = Pairs(prompt="a list", include_prompt=False)
  target = Similarity(("mean", "lasttoken"), normalize=True, truncate_dim=5)
  task = cases.task("embedding", inputs, similarity=target)
  program, forward = compare(task, platforms=("cpu", "cuda", "tpu"))
  assert program.inputs[0] == {
    "name": "input_ids",
    "dtype": "int32",
    "shape": ["batch", "length"],
  }
  assert program.outputs[0] == {
    "name": "sentence_embedding",
    "dtype": "float32",
    "shape": ["batch", 5],
  }
  with user_error("takes at most 32 tokens a row, got 33"):
    forward(Batch.from_ids(np.ones((1, 33), int)))


def test_tasks_that_share_an_encoder_are_as_in_jax():
  parts = {name: cases.task(name) for name in ("classification", "embedding")}
  config = dataclasses.replace(small.ENCODER, num_layers=1, dtype="bfloat16")
  task = MultiTask(tasks=parts).bind(config, small.tokenizer())
  compare(task)


def test_what_cannot_be_exported_or_read_is_refused(monkeypatch):
  task = cases.task("classification")
  params = pytrees.of_task(task)
  with user_error("weights: unknown 'besides'; did you mean 'beside'"):
    stablehlo.build(task, params, "besides")
  with user_error("platforms: unknown 'gpu'"):
    stablehlo.build(task, params, platforms=["gpu"])
  with user_error("platforms: expected some of cpu, cuda"):
    stablehlo.build(task, params, platforms=[])
  monkeypatch.setattr(parts, "_MOST_INSIDE", 1000)
  with user_error("do not fit inside of the model's file; use beside"):
    stablehlo.build(task, params, "inside")
  with user_error("cannot read it"):
    StableHloForward(b"no program", task)
