"""A deterministic trainer of WordPiece vocabularies.

The algorithm is that of the `tokenizers` library: byte-pair merging (Sennrich
et al., 2016, "Neural Machine Translation of Rare Words with Subword Units") of
characters, with the prefix `##` inside words. The trainer of `tokenizers`
breaks ties by the order of a hash table, so its ids differ from run to run.
Here ties go to the pair that sorts first, and the vocabulary is a function of
the word counts.
"""

import collections
import heapq
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bert_jax.settings import UserError
from bert_jax.text import basic_tokenizer
from bert_jax.text.basic_tokenizer import WordRules
from bert_jax.text.tokenizer import check_text
from bert_jax.text.wordpiece import MAX_CHARACTERS, PREFIX, SPECIAL_TOKENS

# Control characters that `str.split` treats as spaces; BERT removes them.
_CONTROL_SPACE = re.compile("[\x0b\x0c\x1c-\x1f\x85]")
_CHUNKS_AT_ONCE = 1_000_000

_Pair = tuple[int, int]


def count_words(
  texts: Iterable[str], rules: WordRules | None = None
) -> collections.Counter[str]:
  """Counts the words of texts, split by the rules of the tokenizer.

  The counts of the parts of a corpus can be added. Memory grows with the
  number of different words.

  Raises:
    UserError: a text is not a string, or `texts` is a single string.
  """
  if isinstance(texts, str):
    raise UserError("texts: expected a list of strings, got one string")
  rules = rules or WordRules()
  counts: collections.Counter[str] = collections.Counter()
  # Each different chunk between white space is split once, which is faster.
  chunks: collections.Counter[str] = collections.Counter()
  for text in texts:
    text = check_text(text)
    if _CONTROL_SPACE.search(text):
      text = _CONTROL_SPACE.sub("", text)
    chunks.update(text.split())
    if len(chunks) > _CHUNKS_AT_ONCE:
      _add_words(counts, chunks, rules)
      chunks.clear()
  _add_words(counts, chunks, rules)
  return counts


def _add_words(
  counts: collections.Counter[str], chunks: Mapping[str, int], rules: WordRules
) -> None:
  normalize = basic_tokenizer.normalizer(rules).normalize_str
  split = basic_tokenizer.pre_tokenizer(rules).pre_tokenize_str
  for chunk, count in chunks.items():
    for word, _ in split(normalize(chunk)):
      counts[word] += count


def train(
  word_counts: Mapping[str, int],
  size: int,
  *,
  min_frequency: int = 2,
  coverage: float = 0.9999,
  max_words: int = 1_000_000,
  special_tokens: Sequence[str] = SPECIAL_TOKENS,
) -> tuple[str, ...]:
  """Trains a vocabulary; independent of the order of the counts.

  >>> counts = count_words(["the cat sat", "the mat"])
  >>> train(counts, 30)[-2:]
  ('##he', 'the')

  Args:
    word_counts: the count of each word, as from `count_words`.
    size: the size of the vocabulary, special tokens included.
    min_frequency: the minimum count of a pair of tokens that is merged.
    coverage: the fraction of the characters of the text that the vocabulary
      covers; the rarest characters are omitted.
    max_words: the maximum number of words to train on, the most frequent ones;
      limits the memory, which is about 2 KB per word.
    special_tokens: the first tokens of the vocabulary.

  Returns:
    The tokens in the order of the ids: special tokens, characters, `##`
    characters, and merged tokens in the order of merging. They are fewer than
    `size` if the text is too short.

  Raises:
    UserError: there are no words, or `size` is less than the number of special
      tokens and characters.
  """
  known = sorted(
    (word, count)
    for word, count in word_counts.items()
    if count > 0 and 0 < len(word) <= MAX_CHARACTERS
  )
  if not known:
    raise UserError("vocabulary: there are no words to train on")
  characters = _alphabet(known, coverage)
  spelt = [
    (word, count) for word, count in known if characters.issuperset(word)
  ]
  inside = set().union(*(word for word, _ in known if len(word) > 1))
  alphabet = sorted(characters) + [
    PREFIX + character for character in sorted(characters & inside)
  ]
  least = len(special_tokens) + len(alphabet)
  if size < least:
    raise UserError(
      f"vocabulary: size {size} is too small: {len(special_tokens)} special"
      f" tokens and {len(alphabet)} characters need {least}; use a larger size"
      f" or a lower coverage than {coverage}"
    )
  if len(spelt) > max_words:
    spelt.sort(key=lambda item: (-item[1], item[0]))
    spelt = sorted(spelt[:max_words])
  pieces, _ = grow(spelt, alphabet, size - len(special_tokens), min_frequency)
  return (*special_tokens, *pieces)


def _alphabet(known: Sequence[tuple[str, int]], coverage: float) -> set[str]:
  """The most frequent characters, up to a fraction `coverage` of the text."""
  totals: collections.Counter[str] = collections.Counter()
  for word, count in known:
    for character in word:
      totals[character] += count
  everything = totals.total()
  kept: set[str] = set()
  covered = 0
  for character in sorted(totals, key=lambda c: (-totals[c], c)):
    if covered >= coverage * everything:
      break
    kept.add(character)
    covered += totals[character]
  return kept


def grow(
  spelt: Sequence[tuple[str, int]],
  alphabet: Sequence[str],
  size: int,
  min_frequency: int,
  prefix: str = PREFIX,
) -> tuple[list[str], list[tuple[str, str]]]:
  """Merges the most frequent pair until there are `size` tokens.

  Args:
    spelt: words of characters of the alphabet, and their counts.
    alphabet: the first tokens: characters, and those with the prefix.
    size: the number of tokens.
    min_frequency: the minimum count of a pair that is merged.
    prefix: what tokens inside words begin with.

  Returns:
    The tokens, and the pairs in the order of merging.
  """
  pieces = list(alphabet)
  merges = []
  ids = {piece: id for id, piece in enumerate(pieces)}
  text = _Text(spelt, ids, prefix)
  counts, places = text.pairs()

  def entry(pair: _Pair) -> tuple[int, str, str, _Pair]:
    return -counts[pair], pieces[pair[0]], pieces[pair[1]], pair

  # A lazy heap: counts that have decreased are corrected when popped.
  heap = [entry(pair) for pair in counts]
  heapq.heapify(heap)
  while heap and len(pieces) < size:
    count, left, right, pair = heapq.heappop(heap)
    if counts.get(pair, 0) != -count:
      if counts.get(pair, 0) >= min_frequency:
        heapq.heappush(heap, entry(pair))
      continue
    if -count < min_frequency:
      break
    piece = left + right.removeprefix(prefix)
    merges.append((left, right))
    if piece not in ids:
      ids[piece] = len(pieces)
      pieces.append(piece)
    changes = text.merge(pair, ids[piece], places)
    changes[pair] = -counts[pair]
    for changed, change in changes.items():
      total = counts.get(changed, 0) + change
      if total:
        counts[changed] = total
        if change > 0:
          heapq.heappush(heap, entry(changed))
      else:
        counts.pop(changed, None)
        places.pop(changed, None)
  return pieces, merges


class _Text:
  """All words as a doubly linked list of tokens.

  A place is an index into the lists. A merged pair keeps its left place. -1
  marks the ends of words.
  """

  def __init__(
    self,
    spelt: Sequence[tuple[str, int]],
    ids: dict[str, int],
    prefix: str,
  ):
    lengths = np.array([len(word) for word, _ in spelt])
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1])
    first = np.zeros(len(places), bool)
    first[ends - lengths] = True
    last = np.zeros(len(places), bool)
    last[ends - 1] = True
    self._preceding = np.where(first, -1, places - 1).tolist()
    self._following = np.where(last, -1, places + 1).tolist()
    self._weights = np.repeat([count for _, count in spelt], lengths).tolist()
    self._pieces = [
      ids[character if place == 0 else prefix + character]
      for word, _ in spelt
      for place, character in enumerate(word)
    ]

  def pairs(self) -> tuple[dict[_Pair, int], dict[_Pair, list[int]]]:
    """The count and the places of each pair of tokens."""
    counts: dict[_Pair, int] = collections.defaultdict(int)
    places: dict[_Pair, list[int]] = collections.defaultdict(list)
    for place, after in enumerate(self._following):
      if after >= 0:
        pair = self._pieces[place], self._pieces[after]
        counts[pair] += self._weights[place]
        places[pair].append(place)
    return dict(counts), places

  def merge(
    self, pair: _Pair, new: int, places: dict[_Pair, list[int]]
  ) -> dict[_Pair, int]:
    """Replaces `pair` by `new`; returns changes of the counts of other pairs.

    New places are added to `places`; outdated ones are skipped when visited.
    """
    pieces, weights = self._pieces, self._weights
    preceding, following = self._preceding, self._following
    left, right = pair
    changes: dict[_Pair, int] = collections.defaultdict(int)
    for place in places.pop(pair):
      second = following[place]
      if pieces[place] != left or second < 0 or pieces[second] != right:
        continue
      weight = weights[place]
      before, after = preceding[place], following[second]
      pieces[place] = new
      pieces[second] = -1
      following[place] = after
      if before >= 0:
        neighbour = pieces[before]
        changes[neighbour, left] -= weight
        changes[neighbour, new] += weight
        places[neighbour, new].append(before)
      if after >= 0:
        preceding[after] = place
        neighbour = pieces[after]
        changes[right, neighbour] -= weight
        changes[new, neighbour] += weight
        places[new, neighbour].append(place)
    return changes
