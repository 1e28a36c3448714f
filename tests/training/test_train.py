"""`train` from research code: objects in, no recipe and no folder."""

import jax
import numpy as np
import optax
import pytest

from bert_jax import trees
from bert_jax.training.logging import Logger
from bert_jax.training.mesh import meshes
from bert_jax.training.train import Hooks, init_params, train
from tests.errors import user_error
from tests.training.test_loop import make_recipe

STEPS, ROWS, SGD = 2, 8, optax.sgd(0.1)


@pytest.fixture(scope="module")
def objects(corpus_folder):
  return make_recipe(corpus_folder, model__hidden_dropout=0.1).make_task()


def test_it_takes_a_task_data_an_optimizer_and_steps(objects):
  task, data = objects
  optimizer = optax.adam(1e-2)
  state, metrics = train(task, data, optimizer, steps=STEPS, batch_size=ROWS)
  assert int(state.step) == STEPS
  assert np.isfinite(metrics["mlm_loss"])


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
  with user_error("frozen: 'encoder/layer_9/"):
    train(*objects, SGD, steps=1, batch_size=8, frozen=["encoder/layer_9/.*"])


def test_rows_divide_over_the_devices(objects):
  devices = meshes.batch_devices(meshes.make_mesh(meshes.MeshConfig()))
  with user_error("batch_size: 3 rows do not divide"):
    train(*objects, SGD, steps=1, batch_size=3, accumulation=2 * devices)
