import numpy as np
import pytest

from bert_jax.data import counter_rng
from bert_jax.data.pretraining import pairing
from tests.data.memory_corpus import MemoryCorpus, make_corpus
from tests.data.test_planning import make_plan

KEY = counter_rng.key(0)


def make_pairs(corpus, plan, max_tokens):
  examples = np.arange(len(plan.tokens))
  return pairing.make_pairs(
    corpus, plan, examples, max_tokens=max_tokens, key=KEY
  )


@pytest.mark.parametrize("pairs", [True, False])
def test_segments_hold_what_was_planned(pairs):
  corpus = make_corpus(100)
  plan = make_plan(corpus, pairs=pairs)
  everything = np.concatenate([s for doc in corpus.documents for s in doc])
  begins = np.cumsum([0, *corpus.sentence_lengths])
  found = make_pairs(corpus, plan, max_tokens=10_000)  # nothing is dropped
  for segments, first, count in (
    (found.a, plan.a_first, plan.a_sentences),
    (found.b, plan.b_first, plan.b_sentences),
  ):
    for segment, begin, end in zip(segments, first, first + count):
      wanted = everything[begins[begin] : begins[end]]
      np.testing.assert_array_equal(segment, wanted)
      assert segment.dtype == np.int32
  np.testing.assert_array_equal(found.is_random, plan.is_random)


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("max_tokens", [2, 13, 125])
def test_pairs_have_the_length_that_was_planned(pairs, max_tokens):
  corpus = make_corpus(100)
  plan = make_plan(corpus, pairs=pairs, max_tokens=max_tokens)
  found = make_pairs(corpus, plan, max_tokens)
  sizes = [len(a) + len(b) for a, b in zip(found.a, found.b)]
  assert sizes == plan.tokens.tolist() and max(sizes) == max_tokens
  assert all(len(a) and bool(len(b)) == pairs for a, b in zip(*found[:2]))


def test_what_is_dropped_equals_dropping_single_tokens():
  def reference(a, b, limit):
    before = a, b
    while a + b > limit:
      if a > b:
        a -= 1
      else:
        b -= 1
    return before[0] - a, before[1] - b

  sizes = [(a, b) for a in range(1, 12) for b in range(12)]
  for limit in range(2, 25):
    found = pairing.excess(np.array(sizes, np.uint16), limit)
    wanted = [
      reference(a, b, limit) if b else (max(a - limit, 0), 0) for a, b in sizes
    ]
    assert [*map(tuple, found.tolist())] == wanted


def test_truncation_takes_front_and_back_alike():
  # Each example is one document of one sentence, and loses 100 of 110 tokens.
  sentence = np.arange(110, dtype=np.int32)
  corpus = MemoryCorpus([[sentence]] * 500)
  plan = make_plan(corpus, pairs=False, max_tokens=10)
  found = make_pairs(corpus, plan, 10)
  assert all((np.diff(segment) == 1).all() for segment in found.a)
  fronts = [segment[0] for segment in found.a]
  # A binomial of 100 tosses.
  assert abs(np.mean(fronts) - 50) < 1 and abs(np.std(fronts) - 5) < 0.7


def test_heads_of_many_coins():
  counts = np.array([0, 1, 63, 64, 65, 1000, 100_000])
  many = np.repeat(counts, 400)
  found = counter_rng.count_heads(KEY, np.arange(len(many)), many).reshape(
    -1, 400
  )
  assert (found >= 0).all() and (found <= counts[:, None]).all()
  error = 4 * np.sqrt(counts / 4 / 400)
  assert (abs(found.mean(axis=1) - counts / 2) <= error).all()
  spread = np.sqrt(counts) / 2
  assert (abs(found.std(axis=1) - spread) <= 0.15 * spread).all()
