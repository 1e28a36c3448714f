"""Features of encoders, and which of a teacher's a student learns from."""

import dataclasses

import jax
import numpy as np
import pytest

from bert_jax.models.encoder import Encoder
from bert_jax.training.distillation import features
from bert_jax.training.distillation.config import TeacherConfig
from bert_jax.types import Batch
from tests import pytrees, small
from tests.errors import user_error
from tests.tasks import cases

TEACHER = dataclasses.replace(small.ENCODER, num_layers=6)


def student(**changes):
  return dataclasses.replace(small.ENCODER, **changes)


def config(**changes):
  return TeacherConfig(("teacher",), **{"hidden": 1.0, **changes})


@pytest.mark.parametrize(
  ("count", "layers", "pairs"),
  [
    (3, (), [(0, 0), (1, 2), (2, 4), (3, 6)]),
    (4, (), [(0, 0), (1, 1), (2, 3), (3, 4), (4, 6)]),
    (2, (5, -1), [(0, 0), (1, 6)]),
  ],
)
def test_layers_learn_from_layers(count, layers, pairs):
  plan = features.plan(
    config(layers=layers), student(num_layers=count), TEACHER
  )
  assert [*zip(plan.student.states, plan.teacher.states)] == pairs
  assert plan.width is None
  assert plan.student.layer is None


def test_relations_are_those_of_the_last_layers():
  wide = student(hidden_size=24, num_heads=3)
  plan = features.plan(config(relations=1.0), wide, TEACHER)
  assert (plan.student.layer, plan.teacher.layer, plan.heads) == (1, 5, 2)
  assert plan.width == TEACHER.hidden_size
  plan = features.plan(
    config(relations=1.0, relation_layer=3, relation_heads=8), wide, TEACHER
  )
  assert (plan.teacher.layer, plan.heads) == (3, 8)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"layers": (1, 2, 3)}, "layers: expected 2 numbers, one for each layer"),
    ({"layers": (1, 6)}, "layers: the teacher has the layers 0 to 5, got 6"),
    (
      {"relations": 1.0, "relation_layer": 6},
      "relation_layer: expected at mos",
    ),
    (
      {"relations": 1.0, "relation_heads": 5},
      "relation_heads: 5 do not divide the student's queries of width 16",
    ),
  ],
)
def test_maps_that_do_not_fit_are_refused(changes, message):
  with user_error(f"config.teacher.{message}"):
    features.plan(config(**changes), student(), TEACHER)


@pytest.mark.parametrize(
  "changes",
  [
    {"remat": "full"},
    {"shared_layers": True, "layer_groups": 2, "num_layers": 4},
  ],
  ids=str,
)
def test_features_are_the_encoders(changes):
  encoder = student(**changes)
  task = cases.task("classification", config=encoder)
  params = pytrees.of_task(task)
  batch = Batch.from_ids(np.arange(2, 12).reshape(2, 5))
  last = encoder.num_layers - 1
  wanted = features.Wanted((0, last + 1), last)
  module = features.Observed(task.module, encoder, wanted)

  def both(params):
    whole = Encoder(encoder).apply(
      {"params": params["encoder"]}, batch, hidden_states=True, keys=True
    )
    return module.apply({"params": params}, batch), whole

  outputs, whole = jax.jit(both)(params)
  found = outputs[features.NAME]
  for place, index in enumerate(wanted.states):
    np.testing.assert_allclose(
      found["hidden_states"][:, place], whole.hidden_states[index], rtol=1e-5
    )
  keys = whole.keys[last].key.reshape(2, 5, -1)
  values = whole.keys[last].value.reshape(2, 5, -1)
  np.testing.assert_allclose(found["relations"][:, 1], keys, rtol=1e-4)
  np.testing.assert_allclose(found["relations"][:, 2], values, rtol=1e-4)


def test_a_projection_is_trained_and_rows_of_several_texts_keep_their_axes():
  task = cases.task("multiple_choice")
  module = features.Observed(
    task.module, task.config, features.Wanted((0, 1), 0), 24
  )
  task = dataclasses.replace(task, wrap=lambda _: module)
  params = pytrees.of_task(task)
  kernel = params[features.NAME]["projection"]["kernel"]
  assert kernel.shape == (16, 24)
  batch = jax.tree.map(lambda x: np.stack([x] * 3), task.dummy_batch)
  outputs = jax.eval_shape(task.module.apply, {"params": params}, batch)
  rows = batch.token_ids.shape
  assert len(rows) == 3
  found = outputs[features.NAME]
  assert found["hidden_states"].shape == (*rows[:2], 2, rows[2], 24)
  assert found["relations"].shape == (*rows[:2], 3, rows[2], 16)
