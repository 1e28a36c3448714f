"""Small parts for tests: a tokenizer, an encoder, a model to pretrain."""

import functools

import jax

from bert_jax.model import Model
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import DATA, TASKS, pretraining
from bert_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece

WORDS = "the array is in place a list of names and it sorts them [ ] mask"

ENCODER = EncoderConfig(
  vocab_size=24,
  hidden_size=16,
  num_layers=2,
  num_heads=2,
  intermediate_size=32,
  max_positions=32,
)


@functools.cache
def tokenizer():
  return WordPiece([*SPECIAL_TOKENS, *WORDS.split(), "sort", "##s", "##ed"])


@functools.cache
def task():
  return TASKS["pretraining"].bind(ENCODER, tokenizer())


@functools.cache
def data_config():
  return DATA["pretraining"](corpus="unused", max_length=16, max_predictions=3)


@functools.cache
def training_row():
  """An example of zeros of the shape of the training rows."""
  return pretraining.dummy_batch(data_config())


@functools.cache
def model():
  """A model with random parameters, far enough from zero to differ."""
  dummy = jax.tree.map(lambda x: x[None], task().dummy_batch)
  params = jax.jit(task().module.init)(jax.random.key(0), dummy)["params"]
  params = jax.tree.map(lambda x: 10 * x, params)
  return Model(task(), params, batch_size=4)
