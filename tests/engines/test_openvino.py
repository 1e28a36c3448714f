"""ONNX files run by OpenVINO, where it is installed, beside JAX."""

import dataclasses
import sys

import numpy as np
import pytest

from bert_jax.batch import Batch
from bert_jax.engines.openvino import OpenVinoForward
from bert_jax.export import onnx
from bert_jax.export.check import compare
from tests import pytrees
from tests.errors import user_error
from tests.tasks import cases


def exported(name):
  task = cases.task(name)
  params = pytrees.of_task(task)
  return task, params, onnx.build(task, params).SerializeToString()


def test_its_absence_is_an_error_of_one_line(monkeypatch):
  monkeypatch.setitem(sys.modules, "openvino", None)
  with user_error(r'pip install "bert_jax\[openvino\]"'):
    OpenVinoForward(b"", cases.task("embedding"))


@pytest.mark.parametrize("name", ["pretraining", "multiple_choice"])
def test_outputs_are_those_of_jax(name):
  pytest.importorskip("openvino")
  task, params, made = exported(name)
  forward = OpenVinoForward(made, task, threads=1)
  compare(forward, "model", task, params, [24], compiled=False)


def test_only_the_named_outputs_are_computed():
  pytest.importorskip("openvino")
  task, _, made = exported("embedding")
  forward = OpenVinoForward(made, task, threads=1)
  batch = Batch.from_ids(np.ones((2, 3), int))
  assert [*forward(batch)] == ["hidden_states"]
  (vectors,) = forward(batch, ["sentence_embedding"]).values()
  again = dataclasses.replace(batch, token_ids=batch.token_ids + 1)
  other = forward(again, ["sentence_embedding"])["sentence_embedding"]
  assert vectors.shape == (2, 16) and np.abs(vectors - other).max() > 0.01
  with user_error("no_output"):
    forward(batch, ["no_output"])
  with user_error("OpenVINO cannot open it"):
    OpenVinoForward(b"no model", task)
