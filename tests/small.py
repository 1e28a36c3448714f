"""Small parts for tests: a tokenizer, an encoder, a pretraining task."""

import functools

import jax

from bert_jax.models.config import EncoderConfig
from bert_jax.predictor import Predictor
from bert_jax.tasks import pretraining
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
  data = pretraining.Data(corpus="unused", max_length=16, max_predictions=3)
  return pretraining.make(ENCODER, tokenizer(), data=data)


@functools.cache
def predictor():
  """A predictor with random parameters, far enough from zero to differ."""
  blank = jax.tree.map(lambda x: x[None], task().blank)
  params = jax.jit(task().model.init)(jax.random.key(0), blank)["params"]
  params = jax.tree.map(lambda x: 10 * x, params)
  return Predictor(task(), params, batch_size=4)
