"""Pairs of segments for the next-sentence task, drawn anew each epoch.

The rule is `create_instances_from_document` of Google's
`create_pretraining_data.py` (Devlin et al. 2018, appendix A.2). There it
runs once, ahead of training, and writes its examples down. Here an epoch is
first *planned* from the lengths of the sentences alone: where each example
starts and how many sentences each segment takes. That is enough to make any
one example at any time, from nothing but (seed, epoch, index).
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float, Int, Int32, Int64, UInt16, UInt32, UInt64

# A plan is made in blocks of about so many sentences: enough to spread
# NumPy's overhead, few enough to stay in the cache.
_BLOCK_SENTENCES = 1 << 20
# A longer document is planned in pieces of this size, as blocks advance one
# chunk of each document at a time. A piece's last chunk may be short.
_PIECE_SENTENCES = 1 << 14

# What a random number is drawn for.
_TARGET, _SPLIT, _RANDOM_NEXT = range(3)


class Corpus(Protocol):
  """Tokenised documents by random access, and their lengths beforehand.

  No document is without sentences and no sentence without tokens.

  Attributes:
    sentence_lengths: tokens in each sentence of all documents in order.
    document_starts: the index of each document's first sentence, and the
      number of sentences at the end.
  """

  sentence_lengths: UInt32[np.ndarray, "sentences"]
  document_starts: Int64[np.ndarray, "documents+1"]

  def __len__(self) -> int:
    """The number of documents."""

  def __getitem__(self, index: int) -> Sequence[Int32[np.ndarray, "tokens"]]:
    """The sentences of a document."""


class Plan(NamedTuple):
  """The examples of an epoch in the order of the corpus; 14 bytes each.

  Attributes:
    first: the first sentence, counted through the whole corpus.
    a_sentences: how many sentences segment A takes.
    b_sentences: how many of the following ones segment B takes; 0 where B
      comes from elsewhere, or where there is no B.
    target: the tokens that the two segments should fill.
  """

  first: Int64[np.ndarray, "examples"]
  a_sentences: UInt16[np.ndarray, "examples"]
  b_sentences: UInt16[np.ndarray, "examples"]
  target: UInt16[np.ndarray, "examples"]


class Pair(NamedTuple):
  """Two segments of ids; `b` is empty where the plan has no pairs."""

  a: Int32[np.ndarray, "a"]
  b: Int32[np.ndarray, "b"]
  is_random: bool


def make_plan(
  corpus: Corpus,
  *,
  max_tokens: int,
  short_probability: float,
  pairs: bool,
  seed: int,
  epoch: int,
) -> Plan:
  """Plans an epoch that covers every sentence of the corpus.

  With pairs: sentences are gathered until they reach the document's target
  length or the document ends. Segment A takes a random number of them, but
  not all where there are two or more. With probability 1/2, and always
  where there is only one, B is random and the sentences that A left are put
  back; else B takes them. Without pairs a segment takes as many whole
  sentences as fit the target, at least one.

  As in BERT, a document draws its target once an epoch: `max_tokens`, or
  with `short_probability` uniform in [2, max_tokens].

  Args:
    corpus: only its lengths are read.
    max_tokens: tokens of both segments, special tokens not counted; from 2
      to 65,535.
    short_probability: how often a document's target is short.
    pairs: whether to plan pairs, or single segments.
    seed: of the run, not negative.
    epoch: another epoch gets another plan, not negative.
  """
  assert 2 <= max_tokens < 1 << 16
  lengths = corpus.sentence_lengths
  pieces = _pieces(corpus.document_starts)
  key = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
  blocks = []
  begin, last = 0, len(pieces) - 1
  while begin < last:
    reach = pieces[begin] + _BLOCK_SENTENCES
    end = max(begin + 1, int(np.searchsorted(pieces, reach, "right")) - 1)
    starts = pieces[begin : end + 1]
    block = _Block(lengths[starts[0] : starts[-1]], starts, key)
    blocks.append(block.plan(max_tokens, short_probability, pairs))
    begin = end
  if not blocks:
    return Plan(np.zeros(0, np.int64), *[np.zeros(0, np.uint16)] * 3)
  return Plan(*map(np.concatenate, zip(*blocks)))


def make_pair(
  corpus: Corpus,
  plan: Plan,
  index: int,
  *,
  max_tokens: int,
  pairs: bool,
  rng: np.random.Generator,
) -> Pair:
  """Reads the segments of example `index` of a plan.

  A random B starts at a random sentence of a random other document and runs
  until it fills the target. Where the corpus has no other document, it
  starts elsewhere in the same one. Then tokens are dropped from the longer
  segment, from its front or its back at random, until both fit.

  Args:
    corpus: the corpus that was planned.
    plan: from `make_plan` with the same `max_tokens` and `pairs`.
    index: which example.
    max_tokens: tokens that `a` and `b` may have together.
    pairs: whether there is a B.
    rng: draws the random B and the sides of truncation.
  """
  first = int(plan.first[index])
  starts = corpus.document_starts
  number = int(np.searchsorted(starts, first, "right")) - 1
  document = corpus[number]
  begin = first - int(starts[number])
  split = begin + int(plan.a_sentences[index])
  a = np.concatenate(document[begin:split])
  if not pairs:
    a, b = _truncate(a, a[:0], max_tokens, rng)
    return Pair(a, b, False)
  following = int(plan.b_sentences[index])
  if following:
    b = np.concatenate(document[split : split + following])
  else:
    missing = int(plan.target[index]) - len(a)
    b = _elsewhere(corpus, number, document, (begin, split), missing, rng)
  a, b = _truncate(a, b, max_tokens, rng)
  return Pair(a, b, not following)


def _pieces(starts: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "m"]:
  """The starts of documents and of the pieces of overlong ones."""
  starts = np.asarray(starts)
  cuts = [
    np.arange(starts[i], starts[i + 1], _PIECE_SENTENCES)[1:]
    for i in np.flatnonzero(np.diff(starts) > _PIECE_SENTENCES)
  ]
  return np.sort(np.concatenate([starts, *cuts])) if cuts else starts


class _Block(NamedTuple):
  """Consecutive documents that are planned in lock-step."""

  lengths: UInt32[np.ndarray, "sentences"]
  starts: Int64[np.ndarray, "documents+1"]
  key: UInt64[np.ndarray, "1"]

  def draw(
    self, sentences: Int64[np.ndarray, "n"], purpose: int
  ) -> Float[np.ndarray, "n"]:
    """Uniform in [0, 1), a function of key, sentence and purpose alone.

    So the draws of a document do not depend on the documents beside it. It
    is the SplitMix64 generator (Steele et al. 2014) at a chosen position.
    """
    position = (self.starts[0] + sentences) * 3 + purpose
    z = self.key + position.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53

  def plan(
    self, max_tokens: int, short_probability: float, pairs: bool
  ) -> Plan:
    """The plan of these documents; each turn plans a chunk of all of them."""
    assert self.lengths.size == 0 or self.lengths.min() > 0
    total = np.zeros(len(self.lengths) + 1, np.int64)
    np.cumsum(self.lengths, out=total[1:])
    here, end = self.starts[:-1] - self.starts[0], self.starts[1:]
    end = end - self.starts[0]
    here, end = here[here < end], end[here < end]
    # One draw decides both whether the target is short and how short.
    share = self.draw(here, _TARGET) / max(short_probability, 1e-12)
    short = 2 + np.floor(share * (max_tokens - 1)).astype(np.int64)
    target = np.where(share < 1, short, max_tokens)

    a_sentences, b_sentences, targets = np.zeros(
      (3, len(self.lengths)), np.uint16
    )
    while here.size:
      reach = total[here] + target
      if pairs:
        until = np.minimum(np.searchsorted(total, reach, "left"), end)
        count = until - here
        a = 1 + (self.draw(here, _SPLIT) * (count - 1)).astype(np.int64)
        random = (count == 1) | (self.draw(here, _RANDOM_NEXT) < 0.5)
        b = np.where(random, 0, count - a)
      else:
        until = np.searchsorted(total, reach, "right") - 1
        a = np.maximum(np.minimum(until, end) - here, 1)
        b = np.zeros_like(a)
      a_sentences[here], b_sentences[here], targets[here] = a, b, target
      here = here + a + b
      left = here < end
      if not left.all():
        here, end, target = here[left], end[left], target[left]
    first = np.flatnonzero(a_sentences)
    return Plan(
      self.starts[0] + first,
      a_sentences[first],
      b_sentences[first],
      targets[first],
    )


def _elsewhere(
  corpus: Corpus,
  number: int,
  document: Sequence[Int32[np.ndarray, "tokens"]],
  a: tuple[int, int],
  tokens: int,
  rng: np.random.Generator,
) -> Int32[np.ndarray, "b"]:
  """Sentences of at least `tokens` tokens that do not follow segment A."""
  if len(corpus) > 1:
    other = int(rng.integers(len(corpus) - 1))
    document = corpus[other + (other >= number)]
    start = int(rng.integers(len(document)))
  else:
    # Neither A itself nor its true next, where there is anything else.
    begin, split = a
    skip = split - begin + 1
    count = len(document)
    free = count - skip
    step = skip + rng.integers(free) if free > 0 else rng.integers(count)
    start = int(begin + step) % count
  sentences, found = [], 0
  for sentence in document[start:]:
    sentences.append(sentence)
    found += len(sentence)
    if found >= tokens:
      break
  return np.concatenate(sentences)


def _truncate(
  a: Int[np.ndarray, "a"],
  b: Int[np.ndarray, "b"],
  max_tokens: int,
  rng: np.random.Generator,
) -> tuple[Int[np.ndarray, "a2"], Int[np.ndarray, "b2"]]:
  """Drops tokens, always from the longer segment, until both fit."""
  excess = len(a) + len(b) - max_tokens
  if excess <= 0:
    return a, b
  # In closed form: first the longer one down to the other, then in turns,
  # beginning with B.
  ahead = len(a) - len(b)
  from_a = min(excess, max(ahead, 0)) + max(excess - abs(ahead), 0) // 2
  return _shorten(a, from_a, rng), _shorten(b, excess - from_a, rng)


def _shorten(
  tokens: Int[np.ndarray, "n"], excess: int, rng: np.random.Generator
) -> Int[np.ndarray, "m"]:
  front = int(rng.binomial(excess, 0.5))
  return tokens[front : len(tokens) - (excess - front)]
