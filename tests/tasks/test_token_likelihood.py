"""Scores of texts: pseudo-log-likelihoods."""

import dataclasses

import jax
import numpy as np
import pytest

from bert_jax.model import Model
from bert_jax.predictor import Predictor
from bert_jax.tasks import PSEUDO_LOG_LIKELIHOOD, TASKS
from bert_jax.tasks.inputs.masked_copies import MaskedCopies
from bert_jax.tasks.targets.token_likelihood import perplexity
from bert_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece
from bert_jax.types import Batch
from tests import small
from tests.errors import user_error

TEXTS = ["the array is a list", "it sorts", "names of the list sorted in place"]
MASK = 4


def by_hand(model, text, own_piece_only):
  """The log-probability of each token, one forward pass for each."""
  encoding = model.tokenizer.encode(text)
  found = []
  for place in range(1, len(encoding.ids) - 1):
    ids = np.array([encoding.ids])
    ids[0, place] = MASK
    later = place + 1
    while not own_piece_only and model.tokenizer.continuations[ids[0, later]]:
      ids[0, later], later = MASK, later + 1
    batch = dataclasses.replace(
      Batch.from_ids(ids),
      targets={"masked_lm/positions": np.array([[place]], np.int32)},
    )
    logits = jax.nn.log_softmax(model.forward(batch)["masked_lm"])
    found.append(float(logits[0, 0, encoding.ids[place]]))
  return found


@pytest.mark.parametrize("pll_metric", ["within_word_l2r", "original"])
def test_scores_are_those_of_a_pass_for_each_token(pll_metric):
  model = small.model()
  text = TEXTS[2]
  score = model.score(text, pll_metric=pll_metric)
  expected = by_hand(model, text, pll_metric == "original")
  np.testing.assert_allclose(score.log_probabilities, expected, atol=1e-5)
  assert score.score == pytest.approx(sum(expected), abs=1e-4)
  assert score.pseudo_perplexity == pytest.approx(np.exp(-np.mean(expected)))
  assert score.tokens == (
    *["names", "of", "the", "list", "sort", "##ed", "in", "place"],
  )


def test_scores_do_not_depend_on_the_other_texts_or_the_engine():

  class OtherEngine:
    outputs = ("masked_lm", "next_sentence")

    def __call__(self, batch, names=None):
      found = small.model().forward(batch, names)
      return jax.device_get({name: found[name] for name in names})

  model = small.model()
  together = model.score(TEXTS)
  engine = Predictor(model.task, OtherEngine())
  for text, score, other in zip(TEXTS, together, engine.score(TEXTS)):
    alone = model.score(text)
    assert alone.tokens == score.tokens == other.tokens
    for found in (score, other):
      assert found.score == pytest.approx(alone.score, abs=1e-4)
  assert model.score([]) == []


def test_words_are_those_of_the_tokenizer():
  # Later pieces of a word are hidden with it, and no other word's.
  inputs, tokenizer = MaskedCopies(), small.tokenizer()
  rows = inputs.rows({"text": "sorted sorted sorts"}, tokenizer, small.ENCODER)
  hidden = [
    np.flatnonzero(row.example.token_ids == MASK).tolist() for row in rows
  ]
  assert hidden == [[1, 2], [2], [3, 4], [4], [5]]
  assert [int(r.example.targets["masked_lm/positions"][0]) for r in rows] == [
    *range(1, 6)
  ]


def test_a_long_text_is_refused_or_scored_in_chunks():
  model = small.model()
  text = "the list of names is in place and " * 8
  with user_error("input 2: the text .* has 66 tokens; .* 32; with stride=8"):
    model.score(["it sorts", text])
  found = model.score(text, stride=8)
  assert found.tokens == (*text.split(),)
  # The first tokens see the same as in a text that ends after the chunk.
  first = " ".join(text.split()[:30])
  expected = model.score(first).log_probabilities[:20]
  np.testing.assert_allclose(found.log_probabilities[:20], expected, atol=1e-4)


@pytest.mark.parametrize(
  ("texts", "message"),
  [
    (["it", " "], "input 2: the field 'text' is empty"),
    (["\x00"], "input 1: the text .* has no tokens"),
    ([3], "input 1: expected a text or a record, got 3"),
    ([{"txt": "it"}], "input 1: expected a record with the field 'text'"),
  ],
)
def test_a_text_without_a_score_is_named(texts, message):
  with user_error(message):
    small.model().score(texts)


def test_options_are_checked():
  model = small.model()
  with user_error("pll_metric: unknown 'l2r'"):
    model.score("it", pll_metric="l2r")
  with user_error("stride: expected at least 0"):
    model.score("it", stride=-1)
  with user_error("score.*temperature"):
    model.score("it", temperature=1)


def test_a_model_without_a_head_or_a_mask_has_no_scores():
  task = TASKS["classification"].with_labels(["no", "yes"])
  task = task.bind(small.ENCODER, small.tokenizer())
  params = jax.eval_shape(task.init_params, jax.random.key(0))
  with user_error("this model has no masked-LM head; it has classifier"):
    Model(task, params).score("it")
  names = dict(zip(("pad", "unknown", "cls", "sep"), SPECIAL_TOKENS))
  unmasked = WordPiece([*SPECIAL_TOKENS[:4], "it"], names=names)
  task = PSEUDO_LOG_LIKELIHOOD.bind(small.ENCODER, unmasked)
  with user_error("the vocabulary has no mask token"):
    Model(task, {}).score("it")
  with user_error("without a vocabulary"):
    Model(
      task.bind(small.ENCODER, None), {"masked_lm": {}, "encoder": {}}
    ).score("it")


def test_perplexity_overflows_to_infinity():
  assert perplexity(-1e6, 2) == np.inf
