"""Pytrees of parameters: at random, of a folder, and compared."""

import zlib

import jax
import numpy as np

import bert_jax
from bert_jax import trees, types  # noqa: F401, batches are trees by types


def draw(shapes, scale=0.3, seed=0):
  """Random values far from the initial ones; nothing is compiled for them."""

  def draw(path, shape):
    name = jax.tree_util.keystr(path).encode()
    generator = np.random.default_rng([seed, zlib.crc32(name)])
    return generator.normal(0, scale, shape.shape).astype(np.float32)

  return jax.tree_util.tree_map_with_path(draw, shapes)


def of_module(module, batch):
  """Random parameters of a module that takes the batch."""
  return draw(jax.eval_shape(module.init, jax.random.key(0), batch)["params"])


def of_task(task, seed=0, scale=0.3):
  shapes = jax.eval_shape(task.init_params, jax.random.key(0))
  return draw(shapes, scale, seed)


def load(where):
  """The parameters of a saved model, by path."""
  return trees.flatten(bert_jax.load(where).params)


def assert_equal(one, other):
  """Compares trees of arrays bit for bit."""
  one, other = trees.flatten(one), trees.flatten(other)
  assert one.keys() == other.keys()
  for path, value in one.items():
    assert value.dtype == other[path].dtype, path
    np.testing.assert_array_equal(value, other[path], err_msg=path)
