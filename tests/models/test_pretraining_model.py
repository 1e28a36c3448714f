import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax import trees
from bert_jax.models import vocabulary
from bert_jax.models.config import encoder_config
from bert_jax.tasks import TASKS
from bert_jax.types import Batch
from tests import pytrees, small
from tests.models import reference

CONFIG = dataclasses.replace(
  small.ENCODER,
  vocab_size=37,
  hidden_size=24,
  num_heads=3,
  hidden_dropout=0.2,
  attention_dropout=0.2,
)
LENGTH = 12


def pretraining_model(config):
  return TASKS["pretraining"].bind(config, None).module


def make_batch(lengths):
  """Rows of one sequence each, padded; three masked places a row."""
  rng = np.random.default_rng(0)
  used = np.arange(LENGTH) < np.array(lengths)[:, None]
  ids = np.where(used, rng.integers(1, 37, used.shape), 0)
  positions = rng.integers(0, min(lengths), (len(lengths), 3))
  return dataclasses.replace(
    Batch.from_ids(ids, used, used & (np.arange(LENGTH) >= 4)),
    targets={"masked_lm/positions": positions},
  )


@functools.cache
def make_params(config=CONFIG):
  """Parameters far from their initial values, so that all of them matter."""
  return pytrees.of_module(pretraining_model(config), make_batch([5]))


@functools.cache
def apply(config=CONFIG):
  params = make_params()
  model = pretraining_model(config)
  return jax.jit(lambda batch: model.apply({"params": params}, batch))


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh"])
def test_logits_equal_the_numpy_reference(activation):
  config = dataclasses.replace(CONFIG, activation=activation)
  lengths = [12, 5, 9]
  batch = make_batch(lengths)
  outputs = apply(config)(batch)
  params = jax.tree.map(np.float64, make_params())
  for row, length in enumerate(lengths):
    hidden = reference.encode_sequence(
      params["encoder"],
      config,
      batch.token_ids[row, :length],
      batch.segment_ids[row, :length],
    )
    words, pair = reference.pretraining_logits(
      params, config, hidden, batch.targets["masked_lm/positions"][row]
    )
    np.testing.assert_allclose(outputs["masked_lm"][row], words, atol=2e-5)
    np.testing.assert_allclose(
      outputs["next_sentence"][row, 0], pair, atol=2e-5
    )


def test_rows_that_pad_the_vocabulary_change_nothing():
  batch = make_batch([12, 5])
  padded = dataclasses.replace(CONFIG, vocab_multiple=32)
  params = trees.map_with_path(
    lambda path, x: vocabulary.with_rows(path, x, padded.vocab_rows),
    make_params(),
  )

  def logits(params, config):
    outputs = pretraining_model(config).apply({"params": params}, batch)
    return outputs["masked_lm"]

  def entropy(params, config):
    words = jax.nn.log_softmax(logits(params, config))
    return (jnp.exp(words) * words).sum()

  found = logits(params, padded)
  np.testing.assert_allclose(
    jax.nn.softmax(found)[..., :37],
    jax.nn.softmax(logits(make_params(), CONFIG)),
    atol=1e-6,
  )
  assert not np.any(jax.nn.softmax(found)[..., 37:])
  gradients = jax.grad(entropy)(params, padded)
  words = gradients["encoder"]["embeddings"]["word"]["embedding"]
  assert np.any(words[:37])
  assert not np.any(words[37:])
  assert not np.any(gradients["masked_lm"]["bias"][37:])


def test_bfloat16_is_close_to_float32_with_float32_parameters():
  config = dataclasses.replace(CONFIG, dtype="bfloat16")
  batch = make_batch([12, 5])
  shapes = jax.eval_shape(
    pretraining_model(config).init, jax.random.key(0), batch
  )
  assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {
    np.dtype("float32")
  }
  low, high = apply(config)(batch), apply()(batch)
  assert low["masked_lm"].dtype == low["next_sentence"].dtype == jnp.float32
  spread = float(np.std(high["masked_lm"]))
  np.testing.assert_allclose(
    low["masked_lm"], high["masked_lm"], atol=0.1 * spread
  )


def test_dropout_needs_its_key_and_changes_the_outputs():
  model, batch = pretraining_model(CONFIG), make_batch([12, 5])
  params = make_params()

  @jax.jit
  def train(seed):
    return model.apply(
      {"params": params},
      batch,
      deterministic=False,
      rngs={"dropout": jax.random.key(seed)},
    )["masked_lm"]

  np.testing.assert_array_equal(train(0), train(0))
  assert np.abs(train(0) - train(1)).max() > 0.01
  assert np.abs(train(0) - apply()(batch)["masked_lm"]).max() > 0.01


def test_initial_values_are_a_truncated_normal():
  config = encoder_config({"preset": "bert_tiny", "vocab_size": 5000})
  model = pretraining_model(config)

  @jax.jit
  def init(key):
    params = model.init(key, make_batch([5]))["params"]
    return params["encoder"]["embeddings"]["word"]["embedding"]

  words = init(jax.random.key(0))
  # A normal of 0.02 cut at two deviations has 0.88 of its deviation left.
  assert float(words.std()) == pytest.approx(0.0176, rel=0.02)
  assert float(jnp.abs(words).max()) <= 0.04
