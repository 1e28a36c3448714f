"""Statistics of a corpus, computed shard by shard in bounded memory."""

import dataclasses
import functools

import numpy as np
from jaxtyping import Int, Int64, UInt64

from bert_jax.data.counter_rng import hash_integers

LONG = 512
"""The maximum number of tokens of a sequence in BERT."""

_SKETCH = 1 << 16
_POSITIONS = 1 << 12
_BINS = 33  # Lengths of at most 32 bits, by their number of bits.


@functools.cache
def _multipliers() -> UInt64[np.ndarray, "positions"]:
  return hash_integers(np.arange(_POSITIONS, dtype=np.uint64)) | np.uint64(1)


def hash_sentences(
  ids: Int[np.ndarray, "tokens"], lengths: Int[np.ndarray, "sentences"]
) -> UInt64[np.ndarray, "sentences"]:
  """A 64-bit hash of each of the sentences concatenated in `ids`."""
  starts = np.cumsum(lengths) - lengths
  places = np.arange(len(ids)) - np.repeat(starts, lengths)
  products = (ids.astype(np.uint64) + np.uint64(1)) * _multipliers()[
    places % _POSITIONS
  ]
  return hash_integers(np.add.reduceat(products, starts))


@dataclasses.dataclass
class Duplicates:
  """An estimate of the fraction of duplicates, by bottom-k sampling of hashes.

  Counts the items with the 65,536 smallest hashes. An item is sampled with all
  of its duplicates or not at all, so the fraction of duplicates in the sample
  estimates that of all items. The result does not depend on the order of the
  items, or on how they are divided into parts.

  Attributes:
    hashes: the sampled hashes, ascending.
    counts: the number of items with each hash.
    below: hashes from this value on are not sampled.
  """

  hashes: UInt64[np.ndarray, "n"]
  counts: Int64[np.ndarray, "n"]
  below: int = 1 << 64

  @classmethod
  def none(cls) -> "Duplicates":
    """The estimate of no items."""
    return cls(np.zeros(0, np.uint64), np.zeros(0, np.int64))

  def add(self, hashes: UInt64[np.ndarray, "n"]) -> "Duplicates":
    """The estimate with more items."""
    return self.merge(Duplicates(hashes, np.ones(len(hashes), np.int64)))

  def merge(self, other: "Duplicates") -> "Duplicates":
    """The estimate with the items of both."""
    below = min(self.below, other.below)
    hashes = np.concatenate([self.hashes, other.hashes])
    counts = np.concatenate([self.counts, other.counts])
    small = hashes <= np.uint64(below - 1)
    hashes, places = np.unique(hashes[small], return_inverse=True)
    sums = np.bincount(places, counts[small], len(hashes)).astype(np.int64)
    if len(hashes) > _SKETCH:
      below = int(hashes[_SKETCH])
    return Duplicates(hashes[:_SKETCH], sums[:_SKETCH], below)

  def share(self) -> float:
    """The fraction of items that are duplicates of an earlier one."""
    total = int(self.counts.sum())
    return 1 - len(self.hashes) / total if total else 0.0


@dataclasses.dataclass
class Statistics:
  """Counts over documents; counts of parts can be merged.

  Attributes:
    documents: the number of documents with tokens.
    single: documents of one sentence.
    eval_documents: documents of the eval split.
    sentences: the number of sentences with tokens.
    tokens: the number of tokens.
    unknown: tokens that are `[UNK]`.
    long_tokens: tokens beyond the first 512 of their sentence.
    longest: the number of tokens of the longest sentence.
    empty_documents: documents dropped because they have no tokens.
    empty_sentences: sentences dropped because they have no tokens.
    replaced_bytes: bytes that are not UTF-8.
    characters: the number of characters of text read.
    lengths: sentences by length; bin b counts 2**(b-1) to 2**b - 1 tokens.
    duplicates: the estimate of duplicate sentences.
  """

  documents: int = 0
  single: int = 0
  eval_documents: int = 0
  sentences: int = 0
  tokens: int = 0
  unknown: int = 0
  long_tokens: int = 0
  longest: int = 0
  empty_documents: int = 0
  empty_sentences: int = 0
  replaced_bytes: int = 0
  characters: int = 0
  lengths: Int64[np.ndarray, "33"] = dataclasses.field(
    default_factory=lambda: np.zeros(_BINS, np.int64)
  )
  duplicates: Duplicates = dataclasses.field(default_factory=Duplicates.none)

  def add_sentences(
    self,
    ids: Int[np.ndarray, "tokens"],
    lengths: Int[np.ndarray, "sentences"],
    unknown_id: int,
  ) -> None:
    """Counts the sentences concatenated in `ids`, none of them empty."""
    if not len(lengths):
      return
    self.sentences += len(lengths)
    self.tokens += len(ids)
    self.unknown += int(np.count_nonzero(ids == unknown_id))
    self.long_tokens += int(np.maximum(lengths - LONG, 0).sum())
    self.longest = max(self.longest, int(lengths.max()))
    bins = np.frexp(lengths)[1]
    self.lengths += np.bincount(bins, minlength=_BINS)
    self.duplicates = self.duplicates.add(hash_sentences(ids, lengths))

  def merge(self, other: "Statistics") -> "Statistics":
    """The counts of both."""
    merged = {
      field.name: getattr(self, field.name) + getattr(other, field.name)
      for field in dataclasses.fields(self)
      if field.name not in ("longest", "duplicates")
    }
    return Statistics(
      **merged,
      longest=max(self.longest, other.longest),
      duplicates=self.duplicates.merge(other.duplicates),
    )
