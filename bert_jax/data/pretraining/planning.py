"""Plans the examples of an epoch from the lengths of the sentences.

The rules are those of `create_instances_from_document` in Google's
`create_pretraining_data.py` (Devlin et al. 2018, appendix A.2), which writes
examples to disk before training. Here an epoch is only *planned*: the
sentences of each segment and the number of tokens. That is enough to make any
single example later, and to pack examples into rows.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Int32, Int64, UInt16, UInt32, UInt64

from bert_jax.data import counter_rng

# The approximate number of sentences planned together: large enough to amortise
# NumPy's overhead, small enough for the processor's cache.
_BLOCK_SENTENCES = 1 << 20
# Longer documents are planned in pieces, because a block advances all its
# documents together. The last chunk of a piece may be short.
_PIECE_SENTENCES = 1 << 14

# The uses of random numbers, whose positions are those of sentences.
_PURPOSES = _TARGET, _SPLIT, _RANDOM_NEXT, _DOCUMENT, _SENTENCE = range(5)


class Corpus(Protocol):
  """Tokenized documents by random access, with the lengths of all sentences.

  No document and no sentence is empty.

  Attributes:
    sentence_lengths: the number of tokens of each sentence of the corpus.
    document_starts: the index of the first sentence of each document, and at
      the end the number of sentences.
  """

  sentence_lengths: UInt32[np.ndarray, "sentences"]
  document_starts: Int64[np.ndarray, "documents+1"]

  def __len__(self) -> int:
    """The number of documents."""

  def __getitem__(self, index: int) -> Sequence[Int32[np.ndarray, "tokens"]]:
    """The sentences of a document, as token ids."""


Sentences = UInt32[np.ndarray, "examples"] | Int64[np.ndarray, "examples"]
"""Indices of sentences in the corpus, in the narrowest sufficient dtype."""


class Plan(NamedTuple):
  """The examples of an epoch in the order of the corpus; 15 bytes each.

  Attributes:
    a_first: the first sentence of segment A.
    a_sentences: the number of sentences of A.
    b_first: the first sentence of segment B: the one after A, or a random
      sentence of the corpus.
    b_sentences: the number of sentences of B; 0 without pairs.
    is_random: whether B is random.
    tokens: the number of tokens of both segments after truncation.
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

  With pairs, sentences are collected until they reach the target length of the
  document or the document ends. Segment A takes a random number of them, but
  not all if there are two or more. With probability 1/2, and always if there
  is only one sentence, B is random and the sentences not in A are used for the
  next example; else B takes them. Without pairs, a segment takes as many whole
  sentences as fit the target, at least one.

  A random B starts at a random sentence of another random document, and ends
  at the target length or the end of that document. If the corpus has no other
  document, it starts elsewhere in the same one.

  As in BERT, each document has one target length per epoch: `max_tokens`, or
  with `short_probability` a uniform sample of [2, max_tokens].

  Args:
    corpus: the corpus, of which only the lengths are read.
    max_tokens: the maximum number of tokens of both segments together, without
      special tokens; from 2 to 65,535.
    short_probability: the probability that the target of a document is short.
    pairs: whether to plan pairs, or single segments.
    seed: the seed of the run, not negative.
    epoch: the number of the epoch, not negative.
  """
  assert 2 <= max_tokens < 1 << 16
  lengths, starts = corpus.sentence_lengths, corpus.document_starts
  pieces = _pieces(starts)
  random = _Random(lengths, starts, counter_rng.key(seed, epoch))
  narrow = np.uint32 if len(lengths) < 1 << 32 else np.int64
  dtypes = (narrow, np.uint16, narrow, np.uint16, np.bool_, np.uint16)
  blocks = [Plan(*(np.zeros(0, dtype) for dtype in dtypes))]
  begin, last = 0, len(pieces) - 1
  while begin < last:
    reach = pieces[begin] + _BLOCK_SENTENCES
    end = max(begin + 1, int(np.searchsorted(pieces, reach, "right")) - 1)
    bounds = pieces[begin : end + 1]
    block = _Block(lengths[bounds[0] : bounds[-1]], bounds, random)
    made = block.plan(max_tokens, short_probability, pairs)
    blocks.append(Plan(*(x.astype(dtype) for x, dtype in zip(made, dtypes))))
    begin = end
  return Plan(*map(np.concatenate, zip(*blocks)))


def _pieces(starts: Int64[np.ndarray, "n"]) -> Int64[np.ndarray, "m"]:
  """The starts of documents and of the pieces of long documents."""
  cuts = [
    np.arange(starts[i], starts[i + 1], _PIECE_SENTENCES)[1:]
    for i in np.flatnonzero(np.diff(starts) > _PIECE_SENTENCES)
  ]
  return np.sort(np.concatenate([starts, *cuts])) if cuts else starts


class _Random(NamedTuple):
  """The random choices for each sentence of a corpus, with the epoch's key."""

  lengths: UInt32[np.ndarray, "sentences"]
  starts: Int64[np.ndarray, "documents+1"]
  key: UInt64[np.ndarray, "1"]

  def draw(
    self, sentences: Int64[np.ndarray, "n"], purpose: int
  ) -> Float[np.ndarray, "n"]:
    """A number in [0, 1) for each sentence."""
    return counter_rng.uniform(self.key, sentences * len(_PURPOSES) + purpose)

  def elsewhere(
    self, first: Int64[np.ndarray, "n"], count: Int64[np.ndarray, "n"]
  ) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    """The start of the random B for segments A, and the end of its document."""
    others = len(self.starts) - 2
    at = self.draw(first, _SENTENCE)
    if others:
      number = np.searchsorted(self.starts, first, "right") - 1
      other = (self.draw(first, _DOCUMENT) * others).astype(np.int64)
      other += other >= number
      begin, end = self.starts[other], self.starts[other + 1]
      return begin + (at * (end - begin)).astype(np.int64), end
    # Avoid A and its true next sentence, unless there is nothing else.
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
    """The number of sentences up to `tokens` or `end`, and their tokens."""
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
  """Consecutive documents that are planned together.

  `bounds` are their starts in the corpus, and the end of the last one.
  """

  lengths: UInt32[np.ndarray, "sentences"]
  bounds: Int64[np.ndarray, "documents+1"]
  random: _Random

  def plan(
    self, max_tokens: int, short_probability: float, pairs: bool
  ) -> Plan:
    """The plan of these documents, with int64 arrays."""
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
    """The sentences of A and of B and the target length of each example.

    They are at the index of the first sentence of the example.
    Each iteration plans one example of every document. B is 0 if it is random.
    """
    start = self.bounds[0]
    here, end = self.bounds[:-1] - start, self.bounds[1:] - start
    here, end = here[here < end], end[here < end]
    # One number determines whether the target is short, and its length.
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
