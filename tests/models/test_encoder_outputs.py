import dataclasses

import jax
import numpy as np
import pytest

from bert_jax.models.encoder import Encoder
from bert_jax.types import Batch
from tests import pytrees, small
from tests.errors import user_error
from tests.models import reference, test_families

LENGTHS, LENGTH = (9, 5), 9
MODERN = dataclasses.replace(test_families.MODERN, num_layers=2, global_every=2)


@pytest.fixture(scope="module")
def batch():
  mask = np.arange(LENGTH) < np.array(LENGTHS)[:, None]
  ids = np.random.default_rng(0).integers(1, 19, mask.shape)
  return Batch.from_ids(ids * mask, mask, np.arange(LENGTH) >= 4 * mask)


def outputs_of(config, batch, **wanted):
  """Large parameters, and the outputs with and without those of layers."""
  module = Encoder(config)
  params = pytrees.of_module(module, batch)

  @jax.jit
  def both(params):
    plain = module.apply({"params": params}, batch)
    return plain, module.apply({"params": params}, batch, True, **wanted)

  return params, *both(params)


def test_outputs_equal_the_numpy_reference(batch):
  params, plain, outputs = outputs_of(
    small.ENCODER, batch, hidden_states=True, attentions=True
  )
  np.testing.assert_array_equal(outputs.last_hidden_state, plain)
  np.testing.assert_array_equal(outputs.hidden_states[-1], plain)
  assert len(outputs.hidden_states) == small.ENCODER.num_layers + 1
  assert len(outputs.attentions) == small.ENCODER.num_layers
  wide = jax.tree.map(np.float64, params)
  for row, length in enumerate(LENGTHS):
    states, attentions = reference.encode_layers(
      wide,
      small.ENCODER,
      batch.token_ids[row, :length],
      batch.segment_ids[row, :length],
    )
    for found, expected in zip(outputs.hidden_states, states):
      np.testing.assert_allclose(found[row, :length], expected, atol=1e-5)
    for found, expected in zip(outputs.attentions, attentions):
      found = found[row, :, :length]
      np.testing.assert_allclose(found[..., :length], expected, atol=1e-5)
      np.testing.assert_allclose(found.sum(-1), 1, atol=1e-5)
      assert not found[..., length:].any()


def test_the_last_state_of_a_pre_norm_model_precedes_the_norm(batch):
  params, plain, outputs = outputs_of(MODERN, batch, hidden_states=True)
  assert outputs.attentions is None
  scale = {"scale": params["final_norm"]["scale"], "bias": 0}
  np.testing.assert_allclose(
    reference.norm(
      np.float64(outputs.hidden_states[-1]), scale, MODERN.layer_norm_epsilon
    ),
    plain,
    atol=1e-5,
  )


def test_tokens_outside_of_the_window_get_no_attention(batch):
  _, _, outputs = outputs_of(MODERN, batch, attentions=True)
  assert outputs.hidden_states is None
  everywhere, local = (weights[0] > 0 for weights in outputs.attentions)
  place = np.arange(LENGTH)
  near = abs(place[:, None] - place) <= 2
  assert everywhere.all()
  np.testing.assert_array_equal(local, np.broadcast_to(near, local.shape))


@pytest.mark.parametrize(
  "changes",
  [{"remat": "full"}, {"shared_layers": True}, {"dtype": "bfloat16"}],
  ids=str,
)
def test_shapes_and_dtypes(batch, changes):
  config = dataclasses.replace(small.ENCODER, **changes)
  choices = jax.tree.map(lambda x: np.stack([x] * 3, axis=1), batch)
  module = Encoder(config)
  params = jax.eval_shape(module.init, jax.random.key(0), choices)
  outputs = jax.eval_shape(
    lambda params: module.apply(params, choices, True, True, True), params
  )
  rows, layers = (2, 3), config.num_layers
  state = (*rows, LENGTH, config.hidden_size)
  weights = (*rows, config.num_heads, LENGTH, LENGTH)
  found = [(x.shape, x.dtype) for x in outputs.hidden_states]
  assert found == [(state, config.dtype)] * (layers + 1)
  found = [(x.shape, x.dtype) for x in outputs.attentions]
  assert found == [(weights, np.float32)] * layers
  assert outputs.last_hidden_state.shape == state


@pytest.mark.parametrize("backend", ["splash", "short"])
def test_a_kernel_returns_no_weights(batch, backend):
  config = dataclasses.replace(
    small.ENCODER, attention=backend, attention_dropout=0.0
  )
  with user_error(f"attention backend {backend} has no attention weights"):
    Encoder(config).init(jax.random.key(0), batch, attentions=True)
