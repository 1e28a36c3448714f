import dataclasses
import functools

import jax
import numpy as np
import pytest

from bert_jax import trees
from bert_jax.models import pooling
from bert_jax.tasks import TASKS
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.types import Batch
from tests import pytrees, small
from tests.models import reference
from tests.models.test_families import MODERN, bare, make_batch

SMALL = dataclasses.replace(
  small.ENCODER, vocab_size=40, hidden_dropout=0.0, attention_dropout=0.0
)


def _train(model):
  """A function of parameters, a batch and a seed; with dropout."""

  def apply(params, batch, seed):
    rngs = {"dropout": jax.random.key(seed)}
    return model.apply({"params": params}, batch, False, rngs=rngs)

  return jax.jit(apply)


def test_intents_and_slots_equal_the_numpy_reference():
  task = TASKS["dialogue"].with_labels(
    {"intent": [*"abcde"], "slots": [*"abcdefg"]}
  )
  model, batch = task.bind(SMALL, None).module, make_batch(rows=3)
  params = pytrees.of_module(model, batch)
  assert params.keys() == {"encoder", "pooler", "intent", "slots"}
  got = jax.jit(model.apply)({"params": params}, batch)
  assert got["intent"].dtype == got["slots"].dtype == np.float32
  wide = jax.tree.map(np.float64, params)
  for row in range(3):
    hidden = reference.encode_sequence(
      wide["encoder"], SMALL, batch.token_ids[row], batch.segment_ids[row]
    )
    pooled = np.tanh(reference.dense(hidden[0], wide["pooler"]["dense"]))
    intents = reference.dense(pooled, wide["intent"])
    slots = reference.dense(hidden, wide["slots"])
    np.testing.assert_allclose(got["intent"][row], intents, atol=2e-5)
    np.testing.assert_allclose(got["slots"][row], slots, atol=2e-5)


def test_texts_on_an_axis_of_their_own_are_as_by_themselves():
  model, flat = bare(SMALL), make_batch(rows=6, length=8)
  flat.sequence_ids[2, 5:] = 0
  names = ("token_ids", "segment_ids", "position_ids", "sequence_ids")
  deep = dataclasses.replace(
    flat, **{name: getattr(flat, name).reshape(2, 3, 8) for name in names}
  )
  params = pytrees.of_module(model, flat)
  apply = jax.jit(model.apply)
  wanted, got = (
    apply({"params": params}, batch)["tokens"] for batch in (flat, deep)
  )
  assert got.shape == (2, 3, 8, 16)
  np.testing.assert_array_equal(got.reshape(wanted.shape), wanted)
  np.testing.assert_allclose(
    pooling.mean_of_tokens(got, deep.sequence_ids).reshape(6, 16),
    pooling.mean_of_tokens(wanted, flat.sequence_ids),
    atol=1e-6,
  )


HEADS = ("classification", "multiple_choice", "replaced_tokens", "dialogue")


def of_task(name, config):
  return TASKS[name].bind(config, None).module


@pytest.mark.parametrize("name", HEADS)
def test_heads_have_a_dropout_of_their_own(name):
  config = dataclasses.replace(SMALL, num_layers=1, head_dropout=0.5)
  model, batch = of_task(name, config), make_batch(rows=2)
  if name == "multiple_choice":
    ids = np.ones((2, 2, 12), np.int32)
    batch = Batch(ids, ids, ids, ids)
  params, train = pytrees.of_module(model, batch), _train(model)
  outputs = [train(params, batch, seed) for seed in (0, 1)]
  for a, b in zip(*map(jax.tree.leaves, outputs), strict=True):
    assert np.abs(a - b).max() > 1e-3


def test_heads_drop_out_as_the_encoder_does_by_default():
  batch = make_batch(rows=2)
  config = dataclasses.replace(SMALL, num_layers=1, hidden_dropout=0.2)
  params = pytrees.of_module(of_task("classification", config), batch)
  default, same, none = (
    _train(
      of_task("classification", dataclasses.replace(config, head_dropout=rate))
    )(params, batch, 0)
    for rate in (None, 0.2, 0.0)
  )
  np.testing.assert_array_equal(default["classifier"], same["classifier"])
  assert np.abs(default["classifier"] - none["classifier"]).max() > 1e-3


def test_each_layer_has_its_dropout():
  model, batch = bare(SMALL), make_batch()
  params = pytrees.of_module(model, batch)

  def outputs(*rates, hidden=0.0):
    config = dataclasses.replace(
      SMALL, layer_dropouts=rates, hidden_dropout=hidden
    )
    return _train(bare(config))(params, batch, 0)["tokens"]

  nothing = jax.jit(model.apply)({"params": params}, batch)["tokens"]
  lower, upper = outputs(0.3, 0.0), outputs(0.0, 0.3)
  assert np.abs(lower - nothing).max() > 1e-3
  assert np.abs(upper - nothing).max() > 1e-3
  assert np.abs(upper - lower).max() > 1e-3
  # The embeddings go by hidden_dropout all the same.
  assert np.abs(outputs(0.0, 0.0, hidden=0.3) - nothing).max() > 1e-3


@functools.cache
def _shapes(config):
  """Of the parameters of every task."""
  return {
    name: jax.eval_shape(task.bind(config, None).init_params, jax.random.key(0))
    for name, task in TASKS.items()
  }


@pytest.mark.parametrize("config", [SMALL, MODERN], ids=["bert", "modern"])
def test_every_head_has_its_place_on_a_mesh_alone_and_among_others(config):
  mesh = meshes.make_mesh(meshes.MeshConfig(), devices=jax.devices()[:1])
  for task, params in _shapes(config).items():
    own = {name: tree for name, tree in params.items() if name != "encoder"}
    alone = trees.flatten(
      partitioning.shardings(partitioning.Layout(mesh), own)
    )
    among = trees.flatten(
      partitioning.shardings(partitioning.Layout(mesh), {"my-" + task: own})
    )
    assert among == {f"my-{task}/{path}": x for path, x in alone.items()}
