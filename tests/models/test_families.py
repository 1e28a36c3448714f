"""The switches of `EncoderConfig`; tests/parity compares with Transformers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax import trees
from bert_jax.models import attention, flops, heads
from bert_jax.models.config import encoder_config
from bert_jax.models.presets import PRESETS
from bert_jax.tasks import TASKS
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.types import Batch

MODERN = encoder_config(
  {
    "preset": "modern_base",
    "vocab_size": 40,
    "hidden_size": 16,
    "num_layers": 3,
    "num_heads": 2,
    "intermediate_size": 24,
    "max_positions": 64,
    "local_window": 4,
  }
)
MPNET = encoder_config(
  {
    "preset": "mpnet_base",
    "vocab_size": 40,
    "hidden_size": 16,
    "num_layers": 1,
    "num_heads": 2,
    "intermediate_size": 24,
  }
)
DEBERTA = dataclasses.replace(
  MPNET, position_offset=0, relative_buckets=8, disentangled=True
)


def make_batch(length=12, rows=1):
  ids = np.arange(rows * length).reshape(rows, length) % 40
  return Batch.from_ids(ids)


def bare(config):
  """An encoder alone, as a function of a batch."""
  return heads.EncoderWithHeads(config, {"tokens": _hidden_states})


def _hidden_states(config):
  del config
  return heads.HiddenStates()


@functools.cache
def encoder(config):
  """The encoder as a function of a batch, its parameters large."""
  model = bare(config)
  params = jax.jit(model.init)(jax.random.key(0), make_batch())["params"]
  # Kernels of the size they grow to, else layers hardly change anything.
  params = trees.map_with_path(
    lambda path, x: 10 * x if x.ndim == 2 else x, params
  )
  return jax.jit(lambda batch: model.apply({"params": params}, batch)["tokens"])


def test_rotary_positions_are_relative():
  batch = make_batch()
  shifted = dataclasses.replace(batch, position_ids=batch.position_ids + 7)
  stretched = dataclasses.replace(batch, position_ids=batch.position_ids * 2)
  expected = encoder(MODERN)(batch)
  np.testing.assert_allclose(encoder(MODERN)(shifted), expected, atol=2e-5)
  assert np.abs(encoder(MODERN)(stretched) - expected).max() > 0.01


@pytest.mark.parametrize("config", [MPNET, DEBERTA], ids=["mpnet", "deberta"])
def test_relative_positions_of_packed_sequences(config):
  packed = dataclasses.replace(
    make_batch(),
    sequence_ids=np.array([[1] * 5 + [2] * 7]),
    position_ids=np.array([[*range(5), *range(7)]]),
  )
  second = np.roll(packed.token_ids, -5, axis=1)
  alone = Batch.from_ids(second, np.arange(12)[None] < 7)
  np.testing.assert_allclose(
    encoder(config)(packed)[:, 5:], encoder(config)(alone)[:, :7], atol=2e-5
  )


@pytest.mark.parametrize("length", [1, 5])
def test_values_by_distance_go_to_their_places(length):
  distances = np.arange(1 - length, length + 1)
  x = jnp.asarray(100.0 * np.arange(length)[:, None] + distances)
  place = np.arange(length)
  expected = 100 * place[:, None] + place - place[:, None]
  np.testing.assert_array_equal(attention.by_distance(x), expected)


def test_buckets_of_a_bias_are_those_of_transformers():
  # From MPNetEncoder.relative_position_bucket.
  some = {-400: 15, -90: 14, -64: 14, -63: 13, -12: 9, -11: 8, -8: 8, -7: 7}
  some |= {0: 0, 1: 17, 7: 23, 8: 24, 12: 25, 100: 31, 401: 31}
  found = attention.bias_buckets(401, 32)
  assert {distance: found[400 + distance] for distance in some} == some


def test_buckets_of_embeddings_are_those_of_transformers():
  # From make_log_bucket_position, for 256 buckets in each direction.
  some = {-600: 0, -511: 1, -300: 49, -129: 127, -128: 128, -7: 249, 0: 256}
  some |= {128: 384, 129: 385, 300: 463, 511: 511, 600: 511}
  found = attention.embedding_buckets(np.array([*some]), 512, 512)
  assert dict(zip(some, found.tolist())) == some


def test_shared_layers_have_one_set_of_parameters():
  config = encoder_config(
    {"preset": "albert_base", "num_layers": 7, "vocab_size": 50}
  )
  model = bare(config)
  shapes = jax.eval_shape(model.init, jax.random.key(0), make_batch())
  layers = shapes["params"]["encoder"].keys()
  assert layers == {"embeddings", "layer_0"}


# As PyTorch's models of Transformers count them, and keras-hub those of BERT,
# with their poolers.
@pytest.mark.parametrize(
  ("preset", "has_pooler", "count"),
  [
    ("bert_tiny", True, 4_385_920),
    ("bert_small", True, 28_763_648),
    ("bert_l4_h512", True, 28_763_648),
    ("bert_medium", True, 41_373_184),
    ("bert_base", True, 109_482_240),
    ("bert_large", True, 335_141_888),
    ("roberta_base", True, 124_645_632),
    ("xlm_roberta_base", True, 278_043_648),
    ("mpnet_base", True, 109_486_464),
    ("deberta_v3_base", False, 183_831_552),
    ("distilbert_base", False, 66_362_880),
    ("electra_small", False, 13_483_008),
    ("electra_base", False, 108_891_648),
    ("albert_base", True, 11_683_584),
    ("albert_xxlarge", True, 222_595_584),
    ("modernbert_base", False, 149_014_272),
    ("modernbert_large", False, 394_781_696),
  ],
)
def test_parameter_counts_are_the_published_ones(preset, has_pooler, count):
  config = encoder_config({"preset": preset})
  model = bare(config)
  shapes = jax.eval_shape(model.init, jax.random.key(0), make_batch())["params"]
  pooler = heads.pooler_shapes(config) if has_pooler else {}
  assert trees.count(shapes) + trees.count(pooler) == count


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_sharding_rules_and_flops(preset):
  config = encoder_config({"preset": preset, "num_layers": 1})
  model = TASKS["replaced_tokens"].bind(config, None).module
  shapes = jax.eval_shape(model.init, jax.random.key(0), make_batch())["params"]
  mesh = meshes.make_mesh(meshes.MeshConfig(data=1))
  partitioning.shardings(partitioning.Layout(mesh), shapes)
  assert flops.training_flops_per_token(config, 128, 20) > 0


def test_a_vocabulary_is_padded_to_a_multiple():
  padded = encoder_config({"preset": "bert_base", "vocab_multiple": 128})
  assert (padded.vocab_size, padded.vocab_rows) == (30522, 30592)
  again = encoder_config(dataclasses.asdict(padded))
  assert again == padded == dataclasses.replace(padded, num_layers=12)
