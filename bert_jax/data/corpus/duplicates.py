"""Finds exact and near duplicates among many texts, in bounded memory.

Each shard writes the keys of its texts as a sorted file. Searches of ranges of
keys then read only their slices of all files, and write the duplicates that
they find. Memory is that of the keys of one shard or one range. The result does
not depend on the number of shards, ranges or processes.

The key of an exact duplicate is a 64-bit hash of the text. Those of near
duplicates are the bands of a MinHash signature (Broder 1997; Leskovec et al.,
"Mining of Massive Datasets", chapter 3), and the fraction of equal values in
two signatures estimates the Jaccard similarity of their sets of word n-grams.
"""

import functools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt32, UInt64

from bert_jax.data import counter_rng
from bert_jax.data.corpus import statistics
from bert_jax.storage import folders, paths

HASHES = 128
"""The number of values of a signature; the estimate's error is about 0.04."""

_RECALL = 0.99
# Keys that a search reads at once.
_KEYS = 1 << 22
# A text is compared with as many texts before it that share a band.
_COMPARED = 16
_PAIRS = 1 << 15
_BATCH = 1 << 18  # Characters that are hashed in one call.
# Scripts without spaces between words, of which each character is a word:
# Thai to Myanmar, Khmer, kana, ideographs.
_ALONE = (
  (0x0E00, 0x109F),
  (0x1780, 0x17FF),
  (0x3040, 0x30FF),
  (0x3400, 0x9FFF),
  (0xF900, 0xFAFF),
  (0x20000, 0x3FFFF),
)
_PLACE_BITS = np.uint64(40)


class Kind(NamedTuple):
  """What counts as a duplicate.

  Attributes:
    name: the name of the files.
    similarity: the smallest Jaccard similarity of near duplicates; None for
      exact duplicates, which differ in white space only.
    ngram: the number of words of an n-gram.
  """

  name: str
  similarity: float | None = None
  ngram: int = 5

  @property
  def rows(self) -> int:
    """The values of a band: the most that find 99 % at the similarity."""
    for rows in range(HASHES, 1, -1):
      chance = 1 - (1 - self.similarity**rows) ** (HASHES // rows)
      if chance >= _RECALL:
        return rows
    return 1


def text_hashes(texts: Sequence[str]) -> UInt64[np.ndarray, "texts"]:
  """A 64-bit hash of each text, without regard to its white space."""
  plain = [" ".join(text.split()) + "\n" for text in texts]
  lengths = np.fromiter(map(len, plain), np.int64, len(plain))
  return statistics.hash_sentences(_code_points("".join(plain)), lengths)


def signatures(
  texts: Sequence[str], ngram: int
) -> UInt32[np.ndarray, "texts 128"]:
  """The MinHash signature of the set of word n-grams of each text.

  Words are runs of letters and digits, in lower case; ideographs are words. A
  text of fewer words than `ngram` has one n-gram of all of them, and a text
  without words one of all characters.

  Args:
    texts: at least one text.
    ngram: the number of words of an n-gram.
  """
  words, counts = _word_hashes(texts)
  starts = np.cumsum(counts) - counts
  owner = np.repeat(np.arange(len(texts)), counts)
  left = np.repeat(starts + counts, counts) - np.arange(len(words))
  shingles = np.zeros(len(words), np.uint64)
  for place, multiplier in enumerate(_random(ngram, 0) | np.uint64(1)):
    end = len(words) - place
    if end <= 0:
      break
    within = left[:end] > place
    shingles[:end] += np.where(within, words[place:] * multiplier, np.uint64(0))
  is_first = np.arange(len(words)) == starts[owner]
  shingles = counter_rng.hash_integers(shingles[is_first | (left >= ngram)])
  starts = np.cumsum(sizes := np.maximum(counts - ngram + 1, 1)) - sizes
  found = np.empty((len(texts), HASHES), np.uint32)
  multipliers, offsets = _random(HASHES, 1) | np.uint64(1), _random(HASHES, 2)
  for column, (multiplier, offset) in enumerate(zip(multipliers, offsets)):
    hashes = (shingles * multiplier + offset) >> np.uint64(32)
    found[:, column] = np.minimum.reduceat(hashes, starts)
  return found


def write_keys(
  kind: Kind,
  folder: paths.Path,
  scratch: paths.Path,
  shard: int,
  texts: Iterable[str],
) -> int:
  """Writes the keys of the texts of a shard; returns their number.

  Args:
    kind: what counts as a duplicate.
    folder: the folder of the keys of all shards.
    scratch: a folder for temporary files.
    shard: the number of the shard, less than 2**24.
    texts: its texts, in order.
  """
  keys = [np.zeros(0, np.uint64)]
  name = f"{kind.name}-{shard:05d}"
  with folders.staging(folder, scratch) as staged:
    with (staged / f"{name}.signatures").open("wb") as file:
      for batch in _batches(texts):
        if kind.similarity is None:
          keys.append(text_hashes(batch))
          continue
        found = signatures(batch, kind.ngram)
        file.write(found.tobytes())
        keys.append(_bands(found, kind.rows).ravel())
    joined = np.concatenate(keys)
    bands = 1 if kind.similarity is None else HASHES // kind.rows
    places = np.arange(len(joined), dtype=np.uint64) // np.uint64(bands)
    places |= np.uint64(shard) << _PLACE_BITS
    order = np.argsort(joined, kind="stable")
    np.save(staged / f"{name}.keys.npy", joined[order])
    np.save(staged / f"{name}.places.npy", places[order])
  return len(joined)


def ranges(keys: int) -> int:
  """The number of ranges in which to search for duplicates among keys."""
  return max(1, -(-keys // _KEYS))


def search(
  kind: Kind,
  folder: paths.Path,
  scratch: paths.Path,
  shards: int,
  part: int,
  parts: int,
) -> None:
  """Writes the duplicates whose keys are in one of `parts` ranges.

  A text is a duplicate if an earlier one is equal or, for near duplicates,
  shares a band and is similar enough. A text that is itself removed counts as
  an earlier one. Of a crowd with the same band, a text is compared with the
  first and the 16 before it.
  """
  size = -(-(1 << 64) // parts)
  low, high = part * size, min((part + 1) * size, 1 << 64) - 1
  keys, places = [], []
  for shard in range(shards):
    found, place = (
      np.load(
        paths.local(f"{folder}/{kind.name}-{shard:05d}.{name}.npy"),
        mmap_mode="r",
      )
      for name in ("keys", "places")
    )
    first = np.searchsorted(found, np.uint64(low))
    last = np.searchsorted(found, np.uint64(high), "right")
    keys.append(found[first:last])
    places.append(place[first:last])
  key, place = np.concatenate(keys), np.concatenate(places)
  order = np.lexsort((place, key))
  key, place = key[order], place[order]
  is_new = np.ones(len(key), bool)
  is_new[1:] = key[1:] != key[:-1]
  firsts = np.flatnonzero(is_new)[np.cumsum(is_new) - 1]
  if kind.similarity is None:
    later, earlier = np.flatnonzero(~is_new), firsts[~is_new]
  else:
    later, earlier = _similar(kind, folder, firsts, place)
  pairs = np.stack([place[later], place[earlier]], axis=1)
  with folders.staging(folder, scratch) as staged:
    np.save(staged / f"{kind.name}.found-{part}.npy", pairs[_by_first(pairs)])


def found(
  kind: Kind, folder: paths.Path, shard: int, parts: int
) -> dict[int, tuple[int, int]]:
  """The duplicates in a shard, after all ranges were searched.

  Returns:
    For the index of each duplicate in its shard, ascending, the shard and the
    index of the earliest text that it was found to duplicate.
  """
  low = np.uint64(shard) << _PLACE_BITS
  high = np.uint64(shard + 1) << _PLACE_BITS
  slices = []
  for part in range(parts):
    path = paths.local(f"{folder}/{kind.name}.found-{part}.npy")
    pairs = np.load(path, mmap_mode="r")
    first, last = np.searchsorted(pairs[:, 0], np.array([low, high]))
    slices.append(pairs[first:last])
  pairs = np.concatenate(slices)
  pairs = pairs[_by_first(pairs)]
  place_of = (1 << int(_PLACE_BITS)) - 1
  earliest: dict[int, tuple[int, int]] = {}
  for later, earlier in pairs.tolist():
    where = (earlier >> int(_PLACE_BITS), earlier & place_of)
    earliest.setdefault(later & place_of, where)
  return earliest


def _similar(
  kind: Kind,
  folder: paths.Path,
  firsts: Int64[np.ndarray, "n"],
  place: UInt64[np.ndarray, "n"],
) -> tuple[Int64[np.ndarray, "m"], Int64[np.ndarray, "m"]]:
  """The near duplicates among entries sorted by key, and a text before each."""
  earlier = np.full(len(place), -1)
  read = _Signatures(kind, folder)
  for back in range(_COMPARED + 1):
    # Last the first of all, from which the similar ones rarely differ.
    other = firsts if back == _COMPARED else np.arange(len(place)) - 1 - back
    todo = np.flatnonzero((other >= firsts) & (earlier < 0))
    todo = todo[place[other[todo]] != place[todo]]
    for start in range(0, len(todo), _PAIRS):
      some = todo[start : start + _PAIRS]
      similarity = read.similarity(place[some], place[other[some]])
      some = some[similarity >= kind.similarity]
      earlier[some] = other[some]
  later = np.flatnonzero(earlier >= 0)
  return later, earlier[later]


class _Signatures:
  """The signatures of all shards, memory-mapped when they are needed."""

  def __init__(self, kind: Kind, folder: paths.Path):
    self._where = f"{folder}/{kind.name}"
    self._shards: dict[int, UInt32[np.ndarray, "texts 128"]] = {}

  def similarity(
    self, a: UInt64[np.ndarray, "n"], b: UInt64[np.ndarray, "n"]
  ) -> Float[np.ndarray, "n"]:
    """The estimated Jaccard similarity of the texts at two places."""
    return (self._at(a) == self._at(b)).mean(axis=1)

  def _at(self, places: UInt64[np.ndarray, "n"]) -> UInt32[np.ndarray, "n 128"]:
    found = np.empty((len(places), HASHES), np.uint32)
    shards = places >> _PLACE_BITS
    for shard in np.unique(shards).tolist():
      if shard not in self._shards:
        path = paths.local(f"{self._where}-{shard:05d}.signatures")
        self._shards[shard] = np.memmap(path, np.uint32, "r").reshape(
          -1, HASHES
        )
      inside = shards == shard
      index = places[inside] & np.uint64((1 << int(_PLACE_BITS)) - 1)
      found[inside] = self._shards[shard][index.astype(np.int64)]
    return found


def _bands(
  found: UInt32[np.ndarray, "texts 128"], rows: int
) -> UInt64[np.ndarray, "texts bands"]:
  """A 64-bit key of each band of each signature."""
  bands = HASHES // rows
  values = found[:, : bands * rows].astype(np.uint64).reshape(-1, bands, rows)
  sums = (values * (_random(rows, 3) | np.uint64(1))).sum(axis=2)
  return counter_rng.hash_integers(sums + _random(bands, 4))


def _word_hashes(
  texts: Sequence[str],
) -> tuple[UInt64[np.ndarray, "words"], Int64[np.ndarray, "texts"]]:
  """A hash of each word of all texts, and the number of words of each."""
  lowered = [text.lower() + "\n" for text in texts]
  points = _code_points("".join(lowered))
  is_word, is_alone = (table[points] for table in _tables())
  before = np.concatenate([[False], is_word[:-1]])
  alone_before = np.concatenate([[False], is_alone[:-1]])
  starts = is_word & (~before | is_alone | alone_before)
  word = np.cumsum(starts) - 1
  lengths = np.bincount(word[is_word], minlength=int(starts.sum()))
  owner = np.repeat(np.arange(len(texts)), list(map(len, lowered)))
  counts = np.bincount(owner[starts], minlength=len(texts))
  if len(lengths):
    hashes = statistics.hash_sentences(points[is_word], lengths)
  else:
    hashes = np.zeros(0, np.uint64)
  if (empty := np.flatnonzero(counts == 0)).size:
    whole = text_hashes([texts[i] for i in empty.tolist()])
    hashes = np.insert(hashes, (np.cumsum(counts) - counts)[empty], whole)
    counts[empty] = 1
  return hashes, counts


@functools.cache
def _tables() -> tuple[Bool[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
  """Whether each code point is part of a word, and whether it is a word."""
  is_word = np.array([chr(i).isalnum() for i in range(0x110000)])
  is_alone = np.zeros(0x110000, bool)
  for first, last in _ALONE:
    # Marks of these scripts are not alphanumeric, but spell.
    is_alone[first : last + 1] = is_word[first : last + 1]
  return is_word, is_alone


def _code_points(text: str) -> UInt32[np.ndarray, "characters"]:
  return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


@functools.cache
def _random(count: int, purpose: int) -> UInt64[np.ndarray, "count"]:
  """Fixed random numbers, part of what a signature is."""
  return counter_rng.random_bits(counter_rng.key(purpose), np.arange(count))


def _by_first(pairs: UInt64[np.ndarray, "n 2"]) -> Int64[np.ndarray, "n"]:
  return np.lexsort((pairs[:, 1], pairs[:, 0]))


def _batches(texts: Iterable[str]) -> Iterable[list[str]]:
  batch: list[str] = []
  characters = 0
  for text in texts:
    batch.append(text)
    characters += len(text)
    if characters >= _BATCH:
      yield batch
      batch, characters = [], 0
  if batch:
    yield batch
