"""Runs that train a model for its parameters in 8 or 4 bits."""

import jax

import bert_jax
from bert_jax import settings, trees
from bert_jax.models import quantization
from bert_jax.training.parametrizations import parametrization
from bert_jax.training.parametrizations.quantization import QuantizationConfig
from tests import pytrees, small
from tests.errors import user_error
from tests.models.test_quantization import params
from tests.tasks.learnable import train
from tests.training.finetune_runs import recipe


def test_values_are_those_of_the_bits_and_gradients_pass():
  # An array whose columns have no groups has 8 bits.
  parts = (QuantizationConfig(4).parametrization(small.ENCODER),)
  given, weights = params(), params(seed=1)
  assert parametrization.shapes(given, parts) == {}

  def loss(given):
    merged = parametrization.merge(given, parts)
    products = jax.tree.map(lambda x, y: (x * y).sum(), merged, weights)
    return sum(jax.tree.leaves(products)), merged

  gradients, merged = jax.jit(jax.grad(loss, has_aux=True))(given)
  stored = jax.jit(lambda x: quantization.quantize(x, 4))(given)
  stored = jax.jit(quantization.dequantize)(stored)
  pytrees.assert_equal(trees.flatten(merged), trees.flatten(stored))
  pytrees.assert_equal(trees.flatten(gradients), trees.flatten(weights))


def test_a_run_is_loaded_with_the_values_that_it_was_trained_with(
  home, tmp_path
):
  config = recipe(home, quantization={"bits": 8})
  train(config, tmp_path)
  model = bert_jax.load(tmp_path)
  bert_jax.save(model.in_bits(8), tmp_path / "small", "bert_jax")
  again = bert_jax.load(tmp_path / "small")
  pytrees.assert_equal(trees.flatten(again.params), trees.flatten(model.params))


def test_wrong_bits():
  with user_error("bits: expected 0, 8 or 4"):
    settings.from_dict(QuantizationConfig, {"bits": 3}, "config.quantization")
