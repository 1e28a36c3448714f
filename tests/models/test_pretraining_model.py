import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax import trees
from bert_jax.models.config import encoder_config
from bert_jax.settings import UserError
from bert_jax.tasks import TASKS
from bert_jax.types import Batch
from tests.models import reference

CONFIG = encoder_config(
  {
    "vocab_size": 37,
    "hidden_size": 24,
    "num_layers": 2,
    "num_heads": 3,
    "intermediate_size": 40,
    "max_positions": 16,
    "hidden_dropout": 0.2,
    "attention_dropout": 0.2,
  }
)
LENGTH = 12


def pretraining_model(config):
  return TASKS["pretraining"].bind(config, None).module


def make_batch(lengths, seed=0, length=LENGTH):
  """Rows of one sequence each, padded; three masked places a row."""
  rng = np.random.default_rng(seed)
  rows = len(lengths)
  used = np.arange(length) < np.array(lengths)[:, None]
  return Batch(
    token_ids=np.where(used, rng.integers(1, 37, (rows, length)), 0),
    segment_ids=np.where(used, np.arange(length) >= 4, 0).astype(np.int32),
    position_ids=np.where(used, np.arange(length), 0),
    sequence_ids=used.astype(np.int32),
    targets={
      "masked_lm/positions": rng.integers(0, min(lengths), (rows, 3)),
    },
  )


@functools.cache
def make_params(config=CONFIG):
  """Parameters far from their initial values, so that all of them matter."""
  model = pretraining_model(config)
  params = jax.jit(model.init)(jax.random.key(0), make_batch([5]))["params"]
  rng = np.random.default_rng(1)
  return jax.tree.map(
    lambda x: x + rng.normal(0, 0.3, x.shape).astype(np.float32), params
  )


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


def test_the_content_of_padding_is_ignored():
  batch = make_batch([5, 9])
  used = batch.sequence_ids > 0
  other = dataclasses.replace(
    batch,
    token_ids=np.where(used, batch.token_ids, 31),
    segment_ids=np.where(used, batch.segment_ids, 1),
    position_ids=np.where(used, batch.position_ids, 7),
  )
  for name, expected in apply()(batch).items():
    np.testing.assert_array_equal(apply()(other)[name], expected)


def test_packed_sequences_are_independent():
  alone = make_batch([5, 7])
  fields = {}
  for name in ("token_ids", "segment_ids", "position_ids"):
    values = getattr(alone, name)
    fields[name] = np.concatenate([values[0, :5], values[1, :7]])[None]
  positions = alone.targets["masked_lm/positions"]
  packed = Batch(
    **fields,
    sequence_ids=np.array([[1] * 5 + [2] * 7]),
    targets={"masked_lm/positions": (positions + [[0], [5]]).reshape(1, -1)},
  )
  np.testing.assert_allclose(
    apply()(packed)["masked_lm"].reshape(2, 3, -1),
    apply()(alone)["masked_lm"],
    atol=1e-5,
  )


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


# keras-hub counts encoder and pooler.
@pytest.mark.parametrize(
  ("preset", "count"),
  [
    ("bert_tiny", 4_385_920),
    ("bert_small", 28_763_648),
    ("bert_l4_h512", 28_763_648),
    ("bert_medium", 41_373_184),
    ("bert_base", 109_482_240),
    ("bert_large", 335_141_888),
  ],
)
def test_parameter_counts_are_the_published_ones(preset, count):
  model = pretraining_model(encoder_config({"preset": preset}))
  shapes = jax.eval_shape(model.init, jax.random.key(0), make_batch([5]))
  params = shapes["params"]
  assert trees.count(params["encoder"]) + trees.count(params["pooler"]) == count


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


@pytest.mark.parametrize(
  ("section", "message"),
  [
    ({"presett": "bert_tiny"}, "config.model.presett: unknown key"),
    ({"preset": "bert_tyni"}, "did you mean 'bert_tiny'"),
    ({"num_heads": 7}, "config.model.num_heads: 7 heads do not divide"),
    ({"hidden_size": "big"}, "config.model.hidden_size: expected int"),
    ({"num_layers": 0}, "config.model.num_layers: expected at least 1"),
    ({"activation": "relu"}, "config.model.activation: expected one of"),
    ({"dtype": "float16"}, "config.model.dtype: expected one of"),
    ({"hidden_dropout": 1.0}, "config.model.hidden_dropout: expected a rate"),
  ],
)
def test_a_wrong_value_names_its_key(section, message):
  with pytest.raises(UserError, match=message):
    encoder_config(section)
