import collections
import math

import numpy as np
import pytest

from bert_jax.data import pairing
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
  return pairing.make_plan(corpus, **(options | changes))


def splitmix64(seed, position):
  """The output of Vigna's splitmix64.c after `position` earlier ones."""
  z = (seed + (position + 1) * 0x9E3779B97F4A7C15) & MASK64
  z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
  z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
  return z ^ (z >> 31)


def reference_plan(corpus, max_tokens, short_probability, pairs, seed, epoch):
  """Google's loop over each document, with the same random numbers."""
  sequence = np.random.SeedSequence([seed, epoch])
  key = int(sequence.generate_state(1, np.uint64)[0])

  def uniform(sentence, purpose):
    position = 3 * sentence + purpose - 1  # the first output is number 1
    return (splitmix64(key, position) >> 11) / 2**53

  examples = []
  for start, end in zip(corpus.document_starts, corpus.document_starts[1:]):
    target = max_tokens
    draw = uniform(int(start), 0)
    if draw < short_probability:
      target = 2 + math.floor(draw / short_probability * (max_tokens - 1))
    chunk, length, i = [], 0, int(start)
    while i < end:
      here = int(corpus.sentence_lengths[i])
      if not pairs and chunk and length + here > target:
        examples.append((chunk[0], len(chunk), 0, target))
        chunk, length = [], 0
      chunk.append(i)
      length += here
      if not pairs:
        if i == end - 1:
          examples.append((chunk[0], len(chunk), 0, target))
      elif i == end - 1 or length >= target:
        a_end = 1
        if len(chunk) >= 2:
          a_end = 1 + math.floor(uniform(chunk[0], 1) * (len(chunk) - 1))
        if len(chunk) == 1 or uniform(chunk[0], 2) < 0.5:
          examples.append((chunk[0], a_end, 0, target))
          i -= len(chunk) - a_end
        else:
          examples.append((chunk[0], a_end, len(chunk) - a_end, target))
        chunk, length = [], 0
      i += 1
  return examples


def rows(plan):
  return list(zip(*[array.tolist() for array in plan]))


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
def test_plan_equals_loop_over_documents(pairs, max_tokens, mean_sentences):
  corpus = make_corpus(150, mean_sentences)
  for epoch in range(2):
    options = {
      "max_tokens": max_tokens,
      "short_probability": 0.3,
      "pairs": pairs,
      "seed": 11,
      "epoch": epoch,
    }
    expected = reference_plan(corpus, **options)
    assert rows(pairing.make_plan(corpus, **options)) == expected


@pytest.mark.parametrize("pairs", [True, False])
def test_every_sentence_is_covered_once_an_epoch(pairs):
  corpus = make_corpus()
  for epoch in range(3):
    plan = make_plan(corpus, pairs=pairs, epoch=epoch)
    taken = plan.a_sentences.astype(int) + plan.b_sentences
    assert plan.first[0] == 0
    np.testing.assert_array_equal(plan.first[1:], (plan.first + taken)[:-1])
    assert plan.first[-1] + taken[-1] == len(corpus.sentence_lengths)
    assert (plan.a_sentences > 0).all()
    # No example reaches into the next document.
    starts = corpus.document_starts
    document = np.searchsorted(starts, plan.first, "right") - 1
    assert (plan.first + taken <= starts[document + 1]).all()


def test_rates_are_berts():
  corpus = make_corpus(4000, 20)
  plan = make_plan(corpus)
  random = (plan.b_sentences == 0).mean()
  assert 0.51 < random < 0.65
  first_of_document = np.isin(plan.first, corpus.document_starts)
  target = plan.target[first_of_document]
  short = target < 125
  assert abs(short.mean() - 0.1) < 0.02
  assert 2 <= target.min() < 10 and abs(target[short].mean() - 63) < 7


def test_a_plan_is_a_function_of_seed_and_epoch():
  corpus = make_corpus()
  plan = rows(make_plan(corpus))
  assert plan == rows(make_plan(corpus))
  assert plan != rows(make_plan(corpus, epoch=1))
  assert plan != rows(make_plan(corpus, seed=4))


def test_blocks_do_not_change_the_plan(monkeypatch):
  corpus = make_corpus()
  whole = rows(make_plan(corpus))
  monkeypatch.setattr(pairing, "_BLOCK_SENTENCES", 50)
  assert rows(make_plan(corpus)) == whole


def test_overlong_document_is_covered_in_pieces(monkeypatch):
  monkeypatch.setattr(pairing, "_PIECE_SENTENCES", 100)
  corpus = make_corpus(3, 500)
  plan = make_plan(corpus)
  taken = plan.a_sentences.astype(int) + plan.b_sentences
  np.testing.assert_array_equal(plan.first[1:], (plan.first + taken)[:-1])
  assert plan.first[-1] + taken[-1] == len(corpus.sentence_lengths)


def test_pairs_hold_what_was_planned():
  corpus = make_corpus(300)
  # Nothing is dropped where everything fits.
  plan = make_plan(corpus, max_tokens=125)
  everything = np.concatenate([s for doc in corpus.documents for s in doc])
  begins = np.cumsum([0, *corpus.sentence_lengths])
  ends = begins[corpus.document_starts]
  sources = collections.Counter()
  for index, (first, a_count, b_count, target) in enumerate(rows(plan)):
    rng = np.random.default_rng(index)
    a, b, is_random = pairing.make_pair(
      corpus, plan, index, max_tokens=10_000, pairs=True, rng=rng
    )
    split, end = first + a_count, first + a_count + b_count
    np.testing.assert_array_equal(a, everything[begins[first] : begins[split]])
    assert is_random == (b_count == 0) and len(b)
    if not is_random:
      np.testing.assert_array_equal(b, everything[begins[split] : begins[end]])
      continue
    np.testing.assert_array_equal(b, np.arange(b[0], b[0] + len(b)))
    here = np.searchsorted(ends, a[0], "right") - 1
    other = np.searchsorted(ends, b[0], "right") - 1
    assert here != other and b[0] in begins
    sources[other] += 1
    fills = len(a) + len(b) >= target
    assert fills or b[-1] + 1 == ends[other + 1]
  # Any document may be drawn, and none much more often than others.
  assert len(sources) > 250 and max(sources.values()) < 20


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("max_tokens", [2, 13, 125])
def test_pairs_fit(pairs, max_tokens):
  corpus = make_corpus(100)
  plan = make_plan(corpus, pairs=pairs, max_tokens=max_tokens)
  sizes = []
  for index in range(len(plan.first)):
    rng = np.random.default_rng(index)
    a, b, _ = pairing.make_pair(
      corpus, plan, index, max_tokens=max_tokens, pairs=pairs, rng=rng
    )
    assert len(a) and bool(len(b)) == pairs
    sizes.append(len(a) + len(b))
  assert max(sizes) == max_tokens


def test_truncation_equals_dropping_single_tokens():
  def reference(a, b, limit):
    while a + b > limit:
      if a > b:
        a -= 1
      else:
        b -= 1
    return a, b

  rng = np.random.default_rng(0)
  for a in range(1, 12):
    for b in range(1, 12):
      for limit in range(2, 25):
        cut = pairing._truncate(np.arange(a), np.arange(b), limit, rng)
        assert tuple(map(len, cut)) == reference(a, b, limit)
        for segment in cut:
          assert (np.diff(segment) == 1).all()


def test_truncation_takes_front_and_back_alike():
  rng = np.random.default_rng(0)
  fronts = [
    pairing._truncate(np.arange(110), np.arange(0), 10, rng)[0][0]
    for _ in range(500)
  ]
  assert abs(np.mean(fronts) - 50) < 2 and 3 < np.std(fronts) < 7


@pytest.mark.parametrize("sentences", [1, 2, 3, 9])
def test_single_document_draws_random_next_from_itself(sentences):
  document = [
    np.full(5, number, np.int32) for number in range(1, sentences + 1)
  ]
  corpus = MemoryCorpus([document])
  for seed in range(20):
    plan = make_plan(corpus, max_tokens=12, seed=seed)
    for index, (first, a_count, b_count, _) in enumerate(rows(plan)):
      rng = np.random.default_rng(seed)
      a, b, is_random = pairing.make_pair(
        corpus, plan, index, max_tokens=12, pairs=True, rng=rng
      )
      assert len(a) and len(b) and is_random == (b_count == 0)
      if is_random and a_count + 1 < sentences:
        # Neither segment A again nor its true next.
        following = (first + a_count) % sentences + 1
        assert b[0] not in a and b[0] != following


def test_empty_corpus_has_an_empty_plan():
  assert rows(make_plan(MemoryCorpus([]))) == []


def test_planning_reads_no_text():
  corpus = make_corpus()
  corpus.documents = None
  assert len(make_plan(corpus).first) > 100
