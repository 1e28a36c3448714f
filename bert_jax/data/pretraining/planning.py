"""What each example of an epoch is made of, from lengths alone.

The rule is `create_instances_from_document` of Google's
`create_pretraining_data.py` (Devlin et al. 2018, appendix A.2). There it
runs once, ahead of training, and writes its examples down. Here an epoch is
*planned* from the lengths of the sentences: which sentences each segment
takes, and how many tokens that makes. That is enough to make any one example
at any time, and to pack examples into rows beforehand.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int32, Int64, UInt16, UInt32, UInt64

from bert_jax.data import counter_rng

# A plan is made in blocks of about so many sentences: enough to spread
# NumPy's overhead, few enough to stay in the cache.
_BLOCK_SENTENCES = 1 << 20
# A longer document is planned in pieces of this size, as blocks advance one
# chunk of each document at a time. A piece's last chunk may be short.
_PIECE_SENTENCES = 1 << 14

# What a random number is drawn for; its position is that of a sentence.
_PURPOSES = _TARGET, _SPLIT, _RANDOM_NEXT, _DOCUMENT, _SENTENCE = range(5)


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


Sentences = UInt32[np.ndarray, "examples"] | Int64[np.ndarray, "examples"]
"""Sentences, counted through the whole corpus; no wider than they must be."""


class Plan(NamedTuple):
  """The examples of an epoch in the order of the corpus; 15 bytes each.

  Attributes:
    a_first: the first sentence of segment A.
    a_sentences: how many sentences it takes.
    b_first: the first sentence of segment B: the one after A, or a random
      one, anywhere in the corpus.
    b_sentences: how many sentences it takes, 0 where there are no pairs.
    is_random: whether B is random.
    tokens: of both segments, after they are cut to what fits.
  """

  a_first: Sentences
  a_sentences: UInt16[np.ndarray, "examples"]
  b_first: Sentences
  b_sentences: UInt16[np.ndarray, "examples"]
  is_random: Bool[np.ndarray, "examples"]
  tokens: UInt16[np.ndarray, "examples"]


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

  A random B starts at a random sentence of a random other document and runs
  until it fills the target or its document ends. Where the corpus has no
  other document, it starts elsewhere in the same one.

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
  lengths, starts = corpus.sentence_lengths, corpus.document_starts
  pieces = _pieces(starts)
  random = _Random(lengths, starts, counter_rng.key(seed, epoch))
  narrow = np.uint32 if len(lengths) < 1 << 32 else np.int64
  blocks = [Plan(*(np.zeros(0, dtype) for dtype in _dtypes(narrow)))]
  begin, last = 0, len(pieces) - 1
  while begin < last:
    reach = pieces[begin] + _BLOCK_SENTENCES
    end = max(begin + 1, int(np.searchsorted(pieces, reach, "right")) - 1)
    bounds = pieces[begin : end + 1]
    block = _Block(lengths[bounds[0] : bounds[-1]], bounds, random)
    made = block.plan(max_tokens, short_probability, pairs)
    blocks.append(
      Plan(*(x.astype(dtype) for x, dtype in zip(made, _dtypes(narrow))))
    )
    begin = end
  return Plan(*map(np.concatenate, zip(*blocks)))


def _dtypes(sentences: type) -> tuple[type, ...]:
  return sentences, np.uint16, sentences, np.uint16, np.bool_, np.uint16


def _pieces(starts: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "m"]:
  """The starts of documents and of the pieces of overlong ones."""
  cuts = [
    np.arange(starts[i], starts[i + 1], _PIECE_SENTENCES)[1:]
    for i in np.flatnonzero(np.diff(starts) > _PIECE_SENTENCES)
  ]
  return np.sort(np.concatenate([starts, *cuts])) if cuts else starts


class _Random(NamedTuple):
  """What is drawn for a sentence, in whatever block it is planned.

  Attributes:
    lengths: of all sentences of the corpus.
    starts: of its documents, and the end of the last one.
    key: of the epoch.
  """

  lengths: UInt32[np.ndarray, "sentences"]
  starts: Int64[np.ndarray, "documents+1"]
  key: UInt64[np.ndarray, "1"]

  def draw(
    self, sentences: Int64[np.ndarray, "n"], purpose: int
  ) -> Float[np.ndarray, "n"]:
    """Uniform in [0, 1)."""
    return counter_rng.uniform(self.key, sentences * len(_PURPOSES) + purpose)

  def elsewhere(
    self, first: Int64[np.ndarray, "n"], count: Int64[np.ndarray, "n"]
  ) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """Where the random next of segments begins, and its document ends.

    Args:
      first: the segments' first sentences.
      count: how many sentences they have.
    """
    others = len(self.starts) - 2
    at = self.draw(first, _SENTENCE)
    if others:
      number = np.searchsorted(self.starts, first, "right") - 1
      other = (self.draw(first, _DOCUMENT) * others).astype(np.int64)
      other += other >= number
      begin, end = self.starts[other], self.starts[other + 1]
      return begin + (at * (end - begin)).astype(np.int64), end
    # Neither the segment nor its true next, where there is anything else.
    size, skip = len(self.lengths), count + 1
    free = size - skip
    step = np.where(free > 0, skip + at * free, at * size).astype(np.int64)
    return (first + step) % size, np.full_like(first, size)

  def run(
    self,
    begin: Int64[np.ndarray, "n"],
    end: Int64[np.ndarray, "n"],
    tokens: Int64[np.ndarray, "n"],
  ) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """How many sentences reach so many tokens or the end; their tokens."""
    count = np.ones_like(begin)
    found = self.lengths[begin].astype(np.int64)
    short = np.flatnonzero((found < tokens) & (begin + 1 < end))
    while short.size:
      found[short] += self.lengths[begin[short] + count[short]]
      count[short] += 1
      more = found[short] < tokens[short]
      short = short[more & (begin[short] + count[short] < end[short])]
    return count, found


class _Block(NamedTuple):
  """Consecutive documents that are planned in lock-step.

  Attributes:
    lengths: of their sentences.
    bounds: where they begin, and the last one ends, in the corpus.
    random: draws for the whole corpus.
  """

  lengths: UInt32[np.ndarray, "sentences"]
  bounds: Int64[np.ndarray, "documents+1"]
  random: _Random

  def plan(
    self, max_tokens: int, short_probability: float, pairs: bool
  ) -> Plan:
    """The plan of these documents, its integers wide."""
    assert self.lengths.size == 0 or self.lengths.min() > 0
    total = np.zeros(len(self.lengths) + 1, np.int64)
    np.cumsum(self.lengths, out=total[1:])
    chunks = self._chunks(total, max_tokens, short_probability, pairs)
    first = np.flatnonzero(chunks[0])
    a, b, target = chunks[:, first].astype(np.int64)
    a_tokens = total[first + a] - total[first]
    b_tokens = total[first + a + b] - total[first + a]
    a_first = self.bounds[0] + first
    b_first, is_random = a_first + a, (b == 0) & pairs
    at = np.flatnonzero(is_random)
    if at.size:
      begin, end = self.random.elsewhere(a_first[at], a[at])
      b[at], b_tokens[at] = self.random.run(
        begin, end, target[at] - a_tokens[at]
      )
      b_first[at] = begin
    tokens = np.minimum(a_tokens + b_tokens, max_tokens)
    return Plan(a_first, a, b_first, b, is_random, tokens)

  def _chunks(
    self,
    total: Int64[np.ndarray, "sentences+1"],
    max_tokens: int,
    short_probability: float,
    pairs: bool,
  ) -> UInt16[np.ndarray, "3 sentences"]:
    """At the first sentence of each example what A and B take, and the target.

    Each turn plans a chunk of all documents. Where B is 0 it is random.
    """
    start = self.bounds[0]
    here, end = self.bounds[:-1] - start, self.bounds[1:] - start
    here, end = here[here < end], end[here < end]
    # One draw decides both whether the target is short and how short.
    draw = self.random.draw
    share = draw(start + here, _TARGET) / max(short_probability, 1e-12)
    short = 2 + np.floor(share * (max_tokens - 1)).astype(np.int64)
    target = np.where(share < 1, short, max_tokens)

    chunks = np.zeros((3, len(self.lengths)), np.uint16)
    while here.size:
      reach = total[here] + target
      if pairs:
        until = np.minimum(np.searchsorted(total, reach, "left"), end)
        count = until - here
        a = 1 + (draw(start + here, _SPLIT) * (count - 1)).astype(np.int64)
        random = (count == 1) | (draw(start + here, _RANDOM_NEXT) < 0.5)
        b = np.where(random, 0, count - a)
      else:
        until = np.searchsorted(total, reach, "right") - 1
        a = np.maximum(np.minimum(until, end) - here, 1)
        b = np.zeros_like(a)
      chunks[:, here] = a, b, target
      here = here + a + b
      left = here < end
      if not left.all():
        here, end, target = here[left], end[left], target[left]
    return chunks
