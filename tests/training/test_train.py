"""`train` from research code: objects in, no recipe and no folder."""

import jax
import numpy as np
import optax
import pytest

from bert_jax import trees
from bert_jax.settings import UserError
from bert_jax.training.logging import Logger
from bert_jax.training.mesh import meshes
from bert_jax.training.train import (
  Hooks,
  init_params,
  init_state,
  make_update,
  train,
)
from tests.training.test_loop import make_corpus, make_recipe

STEPS, ROWS = 2, 8


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
  return make_recipe(
    make_corpus(tmp_path_factory.mktemp("corpus")),
    model__hidden_dropout=0.1,
  ).make_task()


def assert_equal(one, other):
  one, other = trees.flatten(one), trees.flatten(other)
  assert one.keys() == other.keys()
  for path, value in one.items():
    np.testing.assert_array_equal(value, other[path], err_msg=path)


def test_it_takes_a_task_data_an_optimizer_and_steps(objects):
  task, data = objects
  optimizer = optax.adam(1e-2)
  state, metrics = train(task, data, optimizer, steps=STEPS, batch_size=ROWS)
  assert int(state.step) == STEPS
  assert np.isfinite(metrics["mlm_loss"])
  # The same by hand.
  update = jax.jit(make_update(task, optimizer))
  stream = data.training(ROWS, 0, None)
  other = init_state(jax.jit(lambda: init_params(task))(), optimizer)
  for step in range(STEPS):
    other, _ = update(other, stream.batch(step, range(ROWS)))
  assert_equal(state.params, other.params)


def test_own_loss_frozen_parameters_logger_and_hooks(objects):
  task, data = objects
  written, called = [], []

  class Memory(Logger):
    def write(self, step, split, values):
      written.append((step, split, *values))

  class Counting(Hooks):
    def after_step(self, step, state):
      called.append((step, int(state.step)))
      return False

  def loss(outputs, batch):
    return {"own_loss": task.loss(outputs, batch)["mlm_loss"]}

  params = jax.jit(lambda: init_params(task, 7))()
  state, metrics = train(
    task,
    data,
    optax.adamw(1e-2, weight_decay=0.1),
    steps=STEPS,
    batch_size=ROWS,
    params=params,
    frozen=["encoder/embeddings/.*", "next_sentence/.*"],
    loss=loss,
    logger=Memory(),
    log_every=1,
    hooks=Counting(),
  )
  before = trees.flatten(params)  # Still there: a copy was donated.
  changed = {
    path
    for path, value in trees.flatten(state.params).items()
    if not np.array_equal(value, before[path])
  }
  assert {"encoder/layer_0/attention/key/kernel", "masked_lm/bias"} <= changed
  # Weight decay moves the pooler, which the loss does not use.
  assert "pooler/dense/kernel" in changed
  assert not [path for path in changed if "embeddings" in path]
  assert "next_sentence/kernel" not in changed
  assert called == [(1, 1), (2, 2)]
  assert [row[:2] for row in written] == [
    (0, "eval"),
    (1, "train"),
    (2, "train"),
    (2, "eval"),
  ]
  assert "own_loss" in written[1]
  assert "mlm_loss" in metrics


def test_patterns_of_frozen_parameters_are_checked(objects):
  task, data = objects
  with pytest.raises(UserError, match="frozen: 'encoder/layer_9/"):
    train(
      task,
      data,
      optax.sgd(0.1),
      steps=1,
      batch_size=ROWS,
      frozen=["encoder/layer_9/.*"],
    )


def test_rows_divide_over_the_devices(objects):
  task, data = objects
  devices = meshes.batch_devices(meshes.make_mesh(meshes.MeshConfig()))
  with pytest.raises(UserError, match="batch_size: 3 rows do not divide"):
    train(
      task,
      data,
      optax.sgd(0.1),
      steps=1,
      batch_size=3,
      accumulation=2 * devices,
    )
