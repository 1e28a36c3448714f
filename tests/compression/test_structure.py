"""Models without some of their layers, heads and units."""

import functools

import jax
import numpy as np
import pytest

import bert_jax
from bert_jax import trees
from bert_jax.compression import structure
from bert_jax.model import Model
from bert_jax.tasks import TASKS
from tests import pytrees, small
from tests.errors import user_error
from tests.tasks import cases

RECORDS = [
  {"text": cases.TEXT, "label": "good"},
  {"text": cases.LONG, "label": "bad"},
  {"text": "it sorts", "label": "good"},
]
HEADS, UNITS = {0: [0]}, {0: [1, 4], 1: [0, 2, 3]}


@functools.cache
def classifier():
  task = TASKS["classification"].with_labels(["good", "bad"])
  task = task.bind(small.ENCODER, small.tokenizer())
  return Model(task, pytrees.of_task(task), batch_size=4)


def masked(model):
  """With zeros in the rows of what is to be removed."""
  flat = {path: np.array(x) for path, x in trees.flatten(model.params).items()}
  width = model.config.head_width
  for layer, heads in HEADS.items():
    kernel = flat[f"encoder/layer_{layer}/attention/output/kernel"]
    for head in heads:
      kernel[head * width : (head + 1) * width] = 0
  for layer, units in UNITS.items():
    flat[f"encoder/layer_{layer}/feed_forward/output/kernel"][units] = 0
  return Model(model.task, trees.unflatten(flat))


def test_what_is_removed_is_as_if_it_were_masked(tmp_path):
  model = classifier()
  pruned = structure.remove(model, HEADS, UNITS)
  assert trees.count(pruned.params) < trees.count(model.params)
  assert structure.zeros(masked(model)) == (HEADS, UNITS)
  assert structure.zeros(model) == ({}, {})
  texts = [cases.TEXT, cases.LONG]
  wanted = masked(model).encode(texts).last_hidden_state
  found = pruned.encode(texts).last_hidden_state
  np.testing.assert_allclose(found, wanted, atol=1e-6)
  # It is an ordinary model.
  bert_jax.save(pruned, tmp_path / "small", "bert_jax")
  again = bert_jax.load(tmp_path / "small")
  assert again.config.layer_heads == (1, 2)
  np.testing.assert_array_equal(again.encode(texts).last_hidden_state, found)
  with user_error("heads or units were removed from its layers, which bert"):
    bert_jax.save(pruned, tmp_path / "theirs")
  assert not (tmp_path / "theirs").exists()


def test_importance_is_the_change_of_the_loss_to_first_order():
  model = classifier()
  found = structure.importance(model, RECORDS)
  assert [x.shape for x in found.heads] == [(2,)] * 2
  for values in (*found.heads, *found.units):
    assert np.linalg.norm(values) == pytest.approx(1, abs=1e-5)
  # Of one record, by a small change of the output kernel's rows.
  one = structure.importance(model, RECORDS[:1])
  width, step = model.config.head_width, 1e-3
  batch = model.task.preprocess(RECORDS[0], labelled=True)
  batch = jax.tree.map(lambda *x: np.stack(x), *batch)

  def loss(scale, head):
    flat = dict(trees.flatten(model.params))
    path = "encoder/layer_0/attention/output/kernel"
    kernel = np.array(flat[path])
    kernel[head * width : (head + 1) * width] *= scale
    flat[path] = kernel
    params = {"params": trees.unflatten(flat)}
    outputs = model.module.apply(params, batch)
    return sum(x.value() for x in model.task.loss(outputs, batch).values())

  changes = [
    abs(loss(1 + step, head) - loss(1 - step, head)) for head in range(2)
  ]
  np.testing.assert_allclose(
    one.heads[0], changes / np.linalg.norm(changes), atol=1e-2
  )


def test_the_least_important_of_all_layers_go():
  found = [np.array([0.1, 0.9]), np.array([0.2, 0.3])]
  assert structure.least_important(found, 0.5) == {0: [0], 1: [0]}
  # At least one of a layer stays.
  found = [np.array([0.1, 0.2]), np.array([0.8, 0.9])]
  assert structure.least_important(found, 0.5) == {0: [0], 1: [0]}
  assert structure.least_important(found, 0.0) == {}
  with user_error("share: expected from 0"):
    structure.least_important(found, 1.0)


def test_layers_are_kept_in_the_order_that_is_given():
  model = classifier()
  one = structure.keep_layers(model, [1])
  flat, own = trees.flatten(model.params), trees.flatten(one.params)
  np.testing.assert_array_equal(
    own["encoder/layer_0/attention/query/kernel"],
    flat["encoder/layer_1/attention/query/kernel"],
  )
  assert not any("layer_1" in path for path in own)
  assert len(one(RECORDS)) == len(RECORDS)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    (lambda m: structure.keep_layers(m, [2]), "no layer 2; the encoder has 2"),
    (lambda m: structure.keep_layers(m, []), "expected at least one"),
    (lambda m: structure.remove(m, {0: [0, 1]}), "none would be left in layer"),
    (lambda m: structure.remove(m, {0: [2]}), "layer 0 has 2, got number 2"),
    (lambda m: structure.remove(m, {3: [0]}), "heads: no layer 3"),
    (lambda m: structure.importance(m, []), "expected records, got none"),
  ],
)
def test_what_cannot_be_removed(change, message):
  with user_error(message):
    change(classifier())
