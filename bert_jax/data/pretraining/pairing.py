"""Reads and truncates the segments of planned examples."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64, UInt64

from bert_jax.data import counter_rng
from bert_jax.data.pretraining.planning import Corpus, Plan

_NOTHING = np.zeros(0, np.int32)


class Pairs(NamedTuple):
  """The token ids of the segments of some examples.

  The second segment, `b`, is empty without next-sentence prediction, and may be
  random.
  """

  a: Sequence[Int32[np.ndarray, "a_tokens"]]
  b: Sequence[Int32[np.ndarray, "b_tokens"]]
  is_random: Bool[np.ndarray, "examples"]


def make_pairs(
  corpus: Corpus,
  plan: Plan,
  examples: Int64[np.ndarray, "examples"],
  *,
  max_tokens: int,
  key: UInt64[np.ndarray, "1"],
) -> Pairs:
  """Reads the segments of some examples of a plan.

  Tokens are removed one at a time from the longer segment, from its front or
  its back at random, until both fit.

  `max_tokens` is that of the plan, for both segments together.
  """
  chosen = Plan(*(array[examples] for array in plan))
  # In this order a true next sentence is in the document read last.
  first = np.stack([chosen.a_first, chosen.b_first], axis=1)
  count = np.stack([chosen.a_sentences, chosen.b_sentences], axis=1)
  segments = _read(corpus, first.ravel(), count.ravel())
  sizes = np.array([len(segment) for segment in segments], np.int64)
  dropped = excess(sizes.reshape(-1, 2), max_tokens)
  if dropped.any():
    places = 2 * examples[:, None] + np.arange(2)
    fronts = counter_rng.count_heads(key, places.ravel(), dropped.ravel())
    ends = sizes - (dropped.ravel() - fronts)
    segments = [
      segment[front:end]
      for segment, front, end in zip(segments, fronts.tolist(), ends.tolist())
    ]
  return Pairs(segments[::2], segments[1::2], chosen.is_random)


def excess(
  sizes: Int[np.ndarray, "examples 2"], max_tokens: int
) -> Int64[np.ndarray, "examples 2"]:
  """The number of tokens to remove from each segment of a pair.

  The closed form of removing one token at a time: first the longer segment is
  cut to the length of the other, then both in turn, beginning with B.
  """
  a, b = sizes.T.astype(np.int64)
  total = np.maximum(a + b - max_tokens, 0)
  in_turns = np.maximum(total - abs(a - b), 0)
  from_a = np.clip(a - b, 0, total) + in_turns // 2
  return np.stack([from_a, total - from_a], axis=1)


def _read(
  corpus: Corpus, first: Int[np.ndarray, "n"], count: Int[np.ndarray, "n"]
) -> list[Int32[np.ndarray, "tokens"]]:
  """Reads segments: `count` sentences from each sentence `first`."""
  starts = corpus.document_starts
  numbers = np.searchsorted(starts, first, "right") - 1
  begins = first - starts[numbers]
  segments, document, held = [], [], -1
  for number, begin, size in zip(
    numbers.tolist(), begins.tolist(), count.tolist()
  ):
    if size and number != held:
      document, held = corpus[number], number
    sentences = document[begin : begin + size] if size else [_NOTHING]
    segments.append(np.concatenate(sentences))
  return segments
