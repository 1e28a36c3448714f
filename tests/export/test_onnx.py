"""ONNX files, run by ONNX Runtime, beside JAX."""

import dataclasses
import functools

import numpy as np
import pytest

from bert_jax.data import grouping
from bert_jax.engines import batches
from bert_jax.engines.onnx import OnnxForward
from bert_jax.export import onnx as export
from bert_jax.models import pooling
from bert_jax.models.activations import ACTIVATIONS
from bert_jax.models.config import encoder_config
from bert_jax.models.pooling import VectorModule
from bert_jax.models.presets import PRESETS
from bert_jax.tasks import TASKS
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.tasks.multi_task import MultiTask
from bert_jax.tasks.targets.similarity import Similarity
from bert_jax.types import Batch
from tests import pytrees, small
from tests.errors import user_error
from tests.tasks import cases

EXPORTED = [name for name in TASKS if not TASKS[name].writes]
FAMILIES = {PRESETS[name].get("family", "bert"): name for name in PRESETS}
SIZES = {
  "vocab_size": 24,
  "hidden_size": 16,
  "num_layers": 2,
  "num_heads": 2,
  "intermediate_size": 24,
  "max_positions": 24,
}
# What families have not, or not at these sizes.
VARIANTS = {
  "albert": {
    "embedding_size": 8,
    "layer_groups": 2,
    "group_layers": 2,
    "num_layers": 8,
  },
  "deberta-v2": {"relative_buckets": 8},
  "electra": {"embedding_size": 8, "pooler_projection": False},
  "modernbert": {"local_window": 4, "num_layers": 3, "pooling": "mean"},
  "distilbert": {"tied_decoder": False, "pooling": "last"},
  "roberta": {"vocab_multiple": 16},
}


def families():
  return {
    family: encoder_config(
      {"preset": name, **SIZES, **VARIANTS.get(family, {})}
    )
    for family, name in FAMILIES.items()
  }


@functools.cache
def exported(task, runtime="standard", seed=0):
  """The task with parameters, and the file that they make."""
  params = pytrees.of_task(task, seed)
  return params, export.build(task, params, runtime)


def compare(task, folder, runtime="standard", lengths=(7,)):
  params, model = exported(task, runtime)
  path = folder / "model.onnx"
  assert export.save(model, path, "inside") == ["model.onnx"]
  found = export.check(path, task, params, lengths, compiled=False)
  assert 0 < found <= export.TOLERANCE


def forward(task, runtime="standard"):
  _, model = exported(task, runtime)
  return OnnxForward(model.SerializeToString(), task, threads=1)


def test_every_family_is_tried():
  assert {*families()} == {config.family for config in families().values()}
  assert VARIANTS.keys() <= families().keys()


@pytest.mark.parametrize("family", families())
@pytest.mark.parametrize("runtime", export.RUNTIMES)
def test_a_family_is_as_in_jax(family, runtime, tmp_path):
  config = families()[family]
  task = cases.task("pretraining", config=config)
  compare(task, tmp_path, runtime, lengths=[24])


@pytest.mark.parametrize("name", EXPORTED)
@pytest.mark.parametrize("runtime", export.RUNTIMES)
def test_a_task_is_as_in_jax(name, runtime, tmp_path):
  compare(cases.task(name), tmp_path, runtime, lengths=[24])


@pytest.mark.parametrize("name", EXPORTED)
def test_a_task_answers_as_in_jax(name):
  model, record = cases.model(name), cases.RECORDS[name]
  made = export.build(model.task, model.params).SerializeToString()
  engine = OnnxForward(made, model.task)
  examples = model.task.preprocess(record)
  batch = grouping.pad(examples, model.task.axes_of(examples[0]), rows=16)
  rows = model.task.predict(engine(batch), batch, [record] * len(examples))
  answer = model.task.decode(record, model.task.merge(record, rows))
  cases.assert_same(answer, model(record))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_is_as_in_jax(activation, tmp_path):
  config = dataclasses.replace(
    small.ENCODER,
    activation=activation,
    pooler_activation=activation,
    num_layers=1,
  )
  task = cases.task("classification", config=config)
  compare(task, tmp_path, lengths=[7])


@pytest.mark.parametrize("mode", pooling.MODES)
@pytest.mark.parametrize("include_prompt", [False, True])
def test_a_pooling_mode_is_as_in_jax(mode, include_prompt, tmp_path):
  inputs = Pairs(prompt="" if include_prompt else "a list")
  inputs = dataclasses.replace(inputs, include_prompt=include_prompt)
  target = Similarity((mode,), normalize=True, truncate_dim=5)
  task = cases.task("embedding", inputs, similarity=target)
  compare(task, tmp_path, lengths=[7])


def test_modules_after_pooling_are_as_in_jax(tmp_path):
  modules = (
    VectorModule("dense", 12, activation="tanh"),
    VectorModule("layer_norm"),
    VectorModule("dense", 6, bias=False),
    VectorModule("normalize"),
  )
  target = Similarity(("mean", "cls"), modules=modules)
  inputs = Pairs(prompt="a list", include_prompt=False)
  compare(cases.task("embedding", inputs, similarity=target), tmp_path)


def test_tasks_that_share_an_encoder_are_as_in_jax(tmp_path):
  names = ("classification", "masked_lm", "multiple_choice", "embedding")
  parts = {f"my {name}": cases.task(name) for name in names}
  task = MultiTask(tasks=parts).bind(small.ENCODER, small.tokenizer())
  compare(task, tmp_path, lengths=[7])


def mixed_batch(task, lengths, length):
  """Rows of these lengths, 0 for an empty one, of the same first tokens."""
  used = np.arange(length) < np.array(lengths)[:, None]
  ids = 1 + np.arange(length) * 5 % (task.config.vocab_size - 1)
  batch = Batch.from_ids(ids * used, used, (np.arange(length) > 3) * used)
  positions = np.minimum(2, np.maximum(np.array(lengths) - 1, 0))
  targets = {"masked_lm/positions": positions[:, None].astype(np.int32)}
  return dataclasses.replace(batch, targets=targets)


@pytest.mark.parametrize("family", families())
@pytest.mark.parametrize("runtime", export.RUNTIMES)
def test_a_row_is_the_same_alone_and_in_any_batch(family, runtime):
  task = cases.task("pretraining", config=families()[family])
  engine, lengths = forward(task, runtime), [*range(1, 25), 0]
  together = engine(mixed_batch(task, lengths, 24), engine.outputs)
  for name, found in together.items():
    assert np.isfinite(found).all(), name
  for row, length in enumerate(lengths[:-1]):
    alone = engine(mixed_batch(task, [length], length), engine.outputs)
    for name, found in alone.items():
      wanted = together[name][row]
      wanted = wanted[:length] if name == "token_embeddings" else wanted
      scale = max(1, np.abs(wanted).max())
      np.testing.assert_allclose(
        found[0], wanted, rtol=0, atol=2e-6 * scale, err_msg=name
      )


def test_a_large_batch_is_computed_in_parts(monkeypatch):
  monkeypatch.setattr(batches, "_TOKENS", 50)  # Two rows of 24.
  task = cases.task("pretraining")
  engine, lengths = forward(task), [24, 5, 1, 24, 9]
  small_parts = engine(mixed_batch(task, lengths, 24), engine.outputs)
  monkeypatch.undo()
  whole = forward(task)
  for name, found in whole(
    mixed_batch(task, lengths, 24), whole.outputs
  ).items():
    np.testing.assert_allclose(small_parts[name], found, atol=3e-6)


def test_vectors_of_a_pair_are_those_of_its_texts():
  task = cases.task("embedding")
  engine = forward(task)
  rows = [task.preprocess(cases.RECORDS["embedding"])[0]] * 2
  batch = grouping.pad(rows)
  pairs = Batch(
    *(
      np.stack([getattr(batch, name)] * 3, axis=1)
      for name in ("token_ids", "segment_ids", "position_ids", "sequence_ids")
    )
  )
  for name in ("hidden_states", "sentence_embedding"):
    alone = engine(batch, [name])[name]
    found = engine(pairs, [name])[name]
    assert found.shape == (2, 3, *alone.shape[1:])
    np.testing.assert_allclose(found[:, 1], alone, atol=1e-6)


def test_the_graph_has_standard_names_and_operators():
  _, model = exported(cases.task("embedding"))
  graph = model.graph
  assert [x.name for x in graph.input] == [
    "input_ids",
    "attention_mask",
    "token_type_ids",
  ]
  assert [x.name for x in graph.output] == [
    "sentence_embedding",
    "token_embeddings",
  ]
  assert {node.domain for node in graph.node} == {""}
  assert [x.version for x in model.opset_import] == [20]
  for value in graph.input:
    sizes = [x.dim_param for x in value.type.tensor_type.shape.dim]
    assert sizes == ["batch", "length"]


def test_a_vocabulary_has_no_rows_of_padding():
  config = dataclasses.replace(small.ENCODER, vocab_multiple=16)
  _, model = exported(cases.task("masked_lm", config=config))
  shapes = {x.name: tuple(x.dims) for x in model.graph.initializer}
  assert shapes["encoder/embeddings/word"] == (24, 16)
  assert shapes["masked_lm/bias"] == (24,)


def test_weights_are_written_beside_the_graph(tmp_path):
  task = cases.task("classification")
  params, model = exported(task)
  path = tmp_path / "model.onnx"
  names = export.save(model, path)
  assert names == ["model.onnx", "model.onnx.data"]
  assert {x.name for x in tmp_path.iterdir()} == {*names}
  # Another user, such as a server's, may read both.
  assert len({x.stat().st_mode for x in tmp_path.iterdir()}) == 1
  export.check(path, task, params, [7], compiled=False)


def test_a_file_that_differs_is_refused(tmp_path):
  task = cases.task("classification")
  params, model = exported(task)
  path = tmp_path / "model.onnx"
  export.save(model, path)
  changed = pytrees.of_task(task, seed=1)
  with user_error("the output classifier differs from JAX by"):
    export.check(path, task, changed, [7], compiled=False)
  path.write_bytes(path.read_bytes()[:-40])
  with user_error("model.onnx"):
    export.check(path, task, params, [7])


def test_what_cannot_be_exported_or_run_is_refused():
  task = cases.task("embedding")
  with user_error("runtime"):
    export.build(task, pytrees.of_task(task), "tensorrt")
  engine = forward(task)
  with user_error("takes at most 32 tokens a row, got 33"):
    engine(Batch.from_ids(np.ones((1, 33), int)))
  with user_error("no_output"):
    engine(Batch.from_ids([[1, 2]]), ["no_output"])
  packed = Batch.from_ids([[1, 2]])
  packed = dataclasses.replace(packed, sequence_ids=np.array([[1, 2]]))
  with user_error("one sequence a row"):
    engine(packed)
  skips = dataclasses.replace(
    Batch.from_ids([[1, 2]]), targets={"inputs/prompt_tokens": np.array([1])}
  )
  with user_error("include_prompt"):
    engine(skips)
  with user_error("ONNX Runtime cannot open it"):
    OnnxForward(b"no model", task)
