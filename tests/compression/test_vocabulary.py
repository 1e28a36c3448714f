"""Models with fewer tokens."""

import numpy as np
import pytest

import bert_jax
from bert_jax.compression import vocabulary
from tests.errors import user_error
from tests.tasks import cases

TEXTS = [cases.TEXT, "it sorts"]


@pytest.mark.parametrize("name", ["classification", "masked_lm"])
def test_outputs_are_the_same_to_the_bit(tmp_path, name):
  model = cases.model(name)
  small = vocabulary.trim(model, TEXTS)
  assert small.config.vocab_size < model.config.vocab_size
  np.testing.assert_array_equal(
    small.encode(TEXTS).last_hidden_state, model.encode(TEXTS).last_hidden_state
  )
  if name == "classification":
    assert small(TEXTS) == model(TEXTS)
  bert_jax.save(small, tmp_path / "small")
  again = bert_jax.load(
    tmp_path / "small", name if name == "masked_lm" else None
  )
  np.testing.assert_array_equal(
    again.encode(TEXTS).last_hidden_state, small.encode(TEXTS).last_hidden_state
  )


def test_without_texts_there_is_nothing_to_keep():
  with user_error("expected texts, got none"):
    vocabulary.trim(cases.model("classification"), [])
