"""Small parts for tests: a tokenizer, an encoder, a model to pretrain."""

import functools

import jax

from bert_jax.model import Model
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import DATA, TASKS
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
def model():
  """A model with random parameters, far enough from zero to differ."""
  params = jax.jit(task().init_params)(jax.random.key(0))
  params = jax.tree.map(lambda x: 10 * x, params)
  return Model(task(), params, batch_size=4)
