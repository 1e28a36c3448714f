import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bert_jax.tasks import TASKS
from bert_jax.training.train import make_update
from bert_jax.types import Batch, Mean, TrainState, add_means
from tests import small

CONFIG = dataclasses.replace(
  small.ENCODER,
  vocab_size=50,
  num_layers=1,
  hidden_dropout=0.0,
  attention_dropout=0.0,
)


def make_task(config=CONFIG):
  return TASKS["pretraining"].bind(config, None)


def make_batch(rows, seed=0):
  """Rows of uneven length with uneven numbers of masked words."""
  rng = np.random.default_rng(seed)
  used = np.arange(16) < rng.integers(6, 17, (rows, 1))
  ids = np.where(used, rng.integers(1, 50, (rows, 16)), 0)
  return dataclasses.replace(
    Batch.from_ids(ids, used, used & (np.arange(16) > 5)),
    targets={
      "masked_lm/positions": rng.permuted(
        np.tile(np.arange(6), (rows, 1)), axis=1
      )[:, :4],
      "masked_lm/ids": rng.integers(0, 50, (rows, 4)),
      "masked_lm/weights": (
        np.arange(4) < rng.integers(1, 5, (rows, 1))
      ).astype(np.float32),
      "next_sentence/labels": rng.integers(0, 2, (rows, 1)),
      "next_sentence/weights": np.ones((rows, 1), np.float32),
    },
  )


def make_state(task, optimizer):
  params = jax.jit(task.module.init)(jax.random.key(0), make_batch(1))["params"]
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    optimizer_state=optimizer.init(params),
    key=jax.random.key(1),
  )


@pytest.fixture(scope="module")
def updates():
  """A task, a state, a batch, and one update of it whole and in 4 parts."""
  task, optimizer = make_task(), optax.sgd(1.0)
  state, batch = make_state(task, optimizer), make_batch(8)
  results = [
    jax.jit(make_update(task, optimizer, n))(state, batch) for n in (1, 4)
  ]
  return task, state, batch, *results


def test_accumulated_micro_batches_equal_the_large_batch(updates):
  _, state, _, (whole, means), (parts, part_means) = updates
  moved = jax.tree.map(
    lambda a, b: np.abs(a - b).max(), whole.params, state.params
  )
  assert max(jax.tree.leaves(moved)) > 1e-2
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
    whole.params,
    parts.params,
  )
  for name, mean in means.items():
    assert mean.value() == pytest.approx(
      float(part_means[name].value()), rel=1e-5
    )


def test_the_loss_of_a_batch_is_the_mean_over_all_its_masked_words(updates):
  task, state, batch, (_, means), _ = updates
  outputs = jax.jit(task.module.apply)({"params": state.params}, batch)
  logits = np.asarray(outputs["masked_lm"], np.float64)
  logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
  losses = [
    -logits[row, slot, batch.targets["masked_lm/ids"][row, slot]]
    for row, slot in np.argwhere(batch.targets["masked_lm/weights"] > 0)
  ]
  assert float(means["mlm_loss"].value()) == pytest.approx(
    np.mean(losses), rel=1e-5
  )
  assert float(means["mlm_loss"].weight) == len(losses)
  tokens = float(means["non_padding_tokens"].total)
  assert tokens == (batch.sequence_ids > 0).sum()


def test_dropout_depends_on_the_step_and_the_key_alone():
  task = make_task(dataclasses.replace(CONFIG, hidden_dropout=0.5))
  optimizer = optax.sgd(0.0)
  state, batch = make_state(task, optimizer), make_batch(4)
  update = jax.jit(make_update(task, optimizer))
  losses = [
    float(update(start, batch)[1]["mlm_loss"].value())
    for start in (
      state,
      state,
      dataclasses.replace(state, step=jnp.ones((), jnp.int32)),
      dataclasses.replace(state, key=jax.random.key(2)),
    )
  ]
  assert losses[0] == losses[1]
  assert len(set(losses[1:])) == 3


def test_means_add_up_before_they_are_divided():
  totals = add_means(iter([{"loss": Mean(6.0, 2.0)}, {"loss": Mean(3.0, 7.0)}]))
  assert float(totals["loss"].value()) == 1.0
  assert float(Mean(jnp.zeros(()), jnp.zeros(())).value()) == 0.0


def test_a_batch_can_be_learned_by_heart():
  task, optimizer = make_task(), optax.adam(1e-2)
  state, batch = make_state(task, optimizer), make_batch(4)
  update = jax.jit(make_update(task, optimizer))
  for _ in range(100):
    state, measures = update(state, batch)
  assert float(measures["mlm_accuracy"].value()) == 1.0
  assert float(measures["nsp_accuracy"].value()) == 1.0
