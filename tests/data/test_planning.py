import math

import numpy as np
import pytest

from bert_jax.data.pretraining import planning
from tests.data.memory_corpus import MemoryCorpus, make_corpus

MASK64 = (1 << 64) - 1


def make_plan(corpus, **changes):
  options = {
    "max_tokens": 125,
    "short_probability": 0.1,
    "pairs": True,
    "seed": 3,
    "epoch": 0,
  }
  return planning.make_plan(corpus, **(options | changes))


def splitmix64(seed, position):
  """The output of Vigna's splitmix64.c after `position` earlier ones."""
  z = (seed + (position + 1) * 0x9E3779B97F4A7C15) & MASK64
  z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
  z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
  return z ^ (z >> 31)


class Reference:
  """Google's loop over each document, with the same random numbers."""

  def __init__(self, corpus, seed, epoch):
    sequence = np.random.SeedSequence([seed, epoch])
    self.key = int(sequence.generate_state(1, np.uint64)[0])
    self.lengths = corpus.sentence_lengths.tolist()
    self.documents = [*zip(corpus.document_starts, corpus.document_starts[1:])]

  def uniform(self, sentence, purpose):
    position = 5 * int(sentence) + purpose - 1  # the first output is number 1
    return (splitmix64(self.key, position) >> 11) / 2**53

  def plan(self, max_tokens, short_probability, pairs):
    """What `Plan` has, a tuple for each example."""
    examples = []
    for number, (start, end) in enumerate(self.documents):
      target = max_tokens
      draw = self.uniform(start, 0)
      if draw < short_probability:
        target = 2 + math.floor(draw / short_probability * (max_tokens - 1))
      for first, a, b in self.chunks(start, end, target, pairs):
        a_tokens = sum(self.lengths[first : first + a])
        b_first, is_random = first + a, pairs and not b
        if is_random:
          b_first, b = self.elsewhere(number, first, a, target - a_tokens)
        tokens = a_tokens + sum(self.lengths[b_first : b_first + b])
        tokens = min(tokens, max_tokens)
        examples.append((first, a, b_first, b, is_random, tokens))
    return examples

  def chunks(self, start, end, target, pairs):
    chunk, length, i = [], 0, start
    while i < end:
      here = self.lengths[i]
      if not pairs and chunk and length + here > target:
        yield chunk[0], len(chunk), 0
        chunk, length = [], 0
      chunk.append(i)
      length += here
      if not pairs:
        if i == end - 1:
          yield chunk[0], len(chunk), 0
      elif i == end - 1 or length >= target:
        a = 1
        if len(chunk) >= 2:
          a = 1 + math.floor(self.uniform(chunk[0], 1) * (len(chunk) - 1))
        if len(chunk) == 1 or self.uniform(chunk[0], 2) < 0.5:
          yield chunk[0], a, 0
          i -= len(chunk) - a
        else:
          yield chunk[0], a, len(chunk) - a
        chunk, length = [], 0
      i += 1

  def elsewhere(self, number, first, a, missing):
    """Where a random next begins, and its number of sentences."""
    others = self.documents[:number] + self.documents[number + 1 :]
    draw = self.uniform(first, 4)
    if others:
      begin, end = others[math.floor(self.uniform(first, 3) * len(others))]
      begin += math.floor(draw * (end - begin))
    else:
      ((_, end),) = self.documents
      allowed = [(first + a + 1 + i) % end for i in range(end - a - 1)]
      allowed = allowed or [(first + i) % end for i in range(end)]
      begin = allowed[math.floor(draw * len(allowed))]
    found = 0
    for i in range(begin, end):
      found += self.lengths[i]
      if found >= missing:
        break
    return begin, i + 1 - begin


def rows(plan):
  return list(zip(*[array.tolist() for array in plan]))


def taken(plan):
  """How many sentences each example takes where it begins."""
  following = np.where(plan.is_random, 0, plan.b_sentences)
  return plan.a_sentences.astype(int) + following


def test_reference_draws_match_published_values():
  # The first outputs of splitmix64.c for the seed 1234567.
  assert [splitmix64(1234567, i) for i in range(3)] == [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
  ]


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("max_tokens", [2, 37, 125, 509])
@pytest.mark.parametrize("mean_sentences", [1, 12])
@pytest.mark.parametrize("documents", [1, 2, 150])
def test_plan_equals_loop_over_documents(
  pairs, max_tokens, mean_sentences, documents
):
  corpus = make_corpus(documents, mean_sentences)
  for epoch in range(2):
    options = {
      "max_tokens": max_tokens,
      "short_probability": 0.3,
      "pairs": pairs,
    }
    plan = planning.make_plan(corpus, **options, seed=11, epoch=epoch)
    assert rows(plan) == Reference(corpus, 11, epoch).plan(**options)


@pytest.mark.parametrize("pairs", [True, False])
def test_every_sentence_is_covered_once_an_epoch(pairs):
  corpus = make_corpus()
  for epoch in range(3):
    plan = make_plan(corpus, pairs=pairs, epoch=epoch)
    first = plan.a_first.astype(int)
    assert first[0] == 0
    np.testing.assert_array_equal(first[1:], (first + taken(plan))[:-1])
    assert first[-1] + taken(plan)[-1] == len(corpus.sentence_lengths)
    assert (plan.a_sentences > 0).all()
    # No example reaches into the next document.
    starts = corpus.document_starts
    document = np.searchsorted(starts, first, "right") - 1
    assert (first + taken(plan) <= starts[document + 1]).all()


def test_rates_are_berts():
  corpus = make_corpus(4000, 20)
  assert 0.51 < make_plan(corpus).is_random.mean() < 0.65
  # With one segment an example is no longer than its document's target.
  plan = make_plan(corpus, pairs=False)
  starts = corpus.document_starts
  document = np.searchsorted(starts, plan.a_first, "right") - 1
  longest = np.zeros(len(corpus), int)
  np.maximum.at(longest, document, plan.tokens)
  long_enough = np.add.reduceat(corpus.sentence_lengths, starts[:-1]) > 300
  # A target from 100 on looks like none, and so do some below.
  short = (longest < 90)[long_enough].mean()
  assert 0.04 < short < 0.1


def test_a_plan_is_a_function_of_seed_and_epoch():
  corpus = make_corpus()
  plan = rows(make_plan(corpus))
  assert plan == rows(make_plan(corpus))
  assert plan != rows(make_plan(corpus, epoch=1))
  assert plan != rows(make_plan(corpus, seed=4))


def test_blocks_do_not_change_the_plan(monkeypatch):
  corpus = make_corpus()
  whole = rows(make_plan(corpus))
  monkeypatch.setattr(planning, "_BLOCK_SENTENCES", 50)
  assert rows(make_plan(corpus)) == whole


def test_overlong_document_is_covered_in_pieces(monkeypatch):
  monkeypatch.setattr(planning, "_PIECE_SENTENCES", 100)
  corpus = make_corpus(3, 500)
  plan = make_plan(corpus)
  first = plan.a_first.astype(int)
  np.testing.assert_array_equal(first[1:], (first + taken(plan))[:-1])
  assert first[-1] + taken(plan)[-1] == len(corpus.sentence_lengths)


def test_any_document_may_be_a_random_next():
  corpus = make_corpus(300)
  plan = make_plan(corpus)
  starts = corpus.document_starts
  here, there = (
    np.searchsorted(starts, first[plan.is_random], "right") - 1
    for first in (plan.a_first, plan.b_first)
  )
  assert (here != there).all()
  drawn = np.bincount(there, minlength=300)
  assert (drawn > 0).sum() > 250 and drawn.max() < 20


@pytest.mark.parametrize("sentences", [1, 2, 3, 9])
def test_single_document_draws_random_next_from_itself(sentences):
  corpus = MemoryCorpus([[np.zeros(5, np.int32)] * sentences])
  for seed in range(20):
    plan = make_plan(corpus, max_tokens=12, seed=seed)
    for first, a, b_first, b, is_random, _ in rows(plan):
      assert b and b_first + b <= sentences
      if is_random and a + 1 < sentences:
        # Neither segment A again nor its true next.
        assert b_first not in range(first, first + a)
        assert b_first != (first + a) % sentences


def test_empty_corpus_has_an_empty_plan():
  assert rows(make_plan(MemoryCorpus([]))) == []


def test_planning_reads_no_text():
  corpus = make_corpus()
  corpus.documents = None
  assert len(make_plan(corpus).tokens) > 100
