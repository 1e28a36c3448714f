"""Parameters in 8 and 4 bits."""

import functools

import jax
import numpy as np
import pytest

import bert_jax
from bert_jax import trees
from bert_jax.model import Model
from bert_jax.models import layers, quantization
from tests import pytrees
from tests.tasks import cases


def params(seed=0):
  rng = np.random.default_rng(seed)

  def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)

  return {
    "encoder": {
      "dense": {"kernel": normal(64, 48), "bias": normal(48)},
      "odd": {"kernel": normal(50, 40)},
      "norm": {"scale": normal(64)},
      "word": {"embedding": normal(50, 32)},
    }
  }


@pytest.mark.parametrize(("bits", "greatest"), [(8, 127), (4, 7)])
def test_values_are_the_nearest_ones(bits, greatest):
  given = params()
  given["encoder"]["dense"]["kernel"][:, 3] = 0
  stored = quantization.quantize(given, bits)
  found = trees.flatten(quantization.dequantize(stored))
  before = trees.flatten(given)
  assert found.keys() == before.keys()
  for path, value in before.items():
    error = np.abs(np.asarray(found[path]) - value)
    if not quantization.is_quantizable(path, value):
      assert not error.any()
      continue
    # Half a step of the largest value that shares the scale.
    most = 127 if "odd" in path else greatest
    axis = 0 if path.endswith("kernel") else 1
    limit = 0.51 * np.abs(value).max(axis, keepdims=True) / most
    assert (error <= limit).all(), path
    assert found[path].dtype == np.float32
  sizes = {x.dtype.name for x in trees.flatten(stored).values()}
  assert sizes == {"float32", "int8", *(["uint8"] if bits == 4 else [])}


@pytest.mark.parametrize("bits", [8, 4])
def test_quantized_again_they_are_the_same_bits(bits):
  for seed in range(5):
    once = quantization.quantize(params(seed), bits)
    again = quantization.quantize(quantization.dequantize(once), bits)
    pytrees.assert_equal(trees.flatten(once), trees.flatten(again))


def test_products_of_integers_are_those_of_the_rounded_values():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(3, 5, 40)).astype(np.float32)
  kernel = rng.normal(size=(40, 7)).astype(np.float32)
  weights = rng.normal(size=(3, 5, 7)).astype(np.float32)

  def rounded(x, axis):
    scale = np.abs(x).max(axis, keepdims=True) / 127
    return np.round(x / scale) * scale

  def loss(function, x, kernel):
    y = function(x, kernel)
    return (y * weights).sum(), y

  def outputs(function):
    grad = jax.grad(functools.partial(loss, function), (0, 1), has_aux=True)
    return jax.jit(grad)(x, kernel)

  gradients, y = outputs(layers.project_int8)
  np.testing.assert_allclose(y, rounded(x, -1) @ rounded(kernel, 0), atol=1e-3)
  pytrees.assert_equal(gradients, outputs(layers.project)[0])
  text = str(jax.make_jaxpr(layers.project_int8)(x, kernel))
  assert "preferred_element_type=int32" in text


def test_a_quantized_model_is_used_saved_and_loaded_like_any_other(tmp_path):
  model = cases.model("classification")
  bert_jax.save(model, tmp_path / "full", "bert_jax")
  small = bert_jax.load(tmp_path / "full", dtype="int8")
  assert quantization.is_quantized(trees.flatten(small.params))
  texts = [cases.TEXT, cases.LONG]
  plain = Model(model.task, quantization.dequantize(small.params))
  expected = plain.encode(texts).last_hidden_state
  np.testing.assert_array_equal(small.encode(texts).last_hidden_state, expected)
  assert small(texts) == plain(texts)
  np.testing.assert_array_equal(small.embed(texts), plain.embed(texts))
  # The dense layers of the encoder may multiply integers.
  dynamic = bert_jax.load(tmp_path / "full", dtype="int8_dynamic")
  pytrees.assert_equal(
    trees.flatten(dynamic.params), trees.flatten(small.params)
  )
  found = dynamic.encode(texts).last_hidden_state
  assert 0 < np.abs(found - expected).max() < 0.1
  bert_jax.save(small, tmp_path / "small", "bert_jax")
  # By default it is a model in float32, of the same values.
  again = bert_jax.load(tmp_path / "small")
  pytrees.assert_equal(trees.flatten(again.params), trees.flatten(plain.params))
  kept = bert_jax.load(tmp_path / "small", dtype="int8")
  pytrees.assert_equal(trees.flatten(kept.params), trees.flatten(small.params))
  bert_jax.save(small, tmp_path / "converted")
  assert bert_jax.load(tmp_path / "converted")(texts) == plain(texts)
