"""The examples in docstrings of data and text."""

import doctest

import pytest

from bert_jax.data import counter_rng, grouping
from bert_jax.data.corpus import clean_text, sentences
from bert_jax.text import byte_level_trainer, wordpiece_trainer


@pytest.mark.parametrize(
  "module",
  [
    byte_level_trainer,
    clean_text,
    counter_rng,
    grouping,
    sentences,
    wordpiece_trainer,
  ],
  ids=lambda module: module.__name__,
)
def test_examples(module):
  results = doctest.testmod(module)
  assert results.attempted and not results.failed
