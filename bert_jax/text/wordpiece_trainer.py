"""Trains WordPiece vocabularies: the same text always gives the same bytes.

The pieces are grown as the `tokenizers` library grows them: byte-pair merging
(Sennrich et al., 2016, "Neural Machine Translation of Rare Words with Subword
Units") of characters, those inside a word marked by `##`; its own trainer,
though, breaks ties by the order of a hash table and so gives other ids from
run to run. Here a tie goes to the pair that sorts first, and the result
depends on the counts of the words alone.
"""

import collections
import dataclasses
import heapq
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bert_jax.settings import UserError
from bert_jax.text import basic_tokenizer
from bert_jax.text.basic_tokenizer import WordRules
from bert_jax.text.tokenizer import check_text
from bert_jax.text.wordpiece import MAX_CHARACTERS, PREFIX, SPECIAL_TOKENS

# Controls that `str.split` takes for spaces; BERT drops them.
_CONTROL_SPACE = re.compile("[\x0b\x0c\x1c-\x1f\x85]")
_CHUNKS_AT_ONCE = 1_000_000

_Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """A trained vocabulary.

  Attributes:
    tokens: special tokens, characters, `##` characters, longer pieces in the
      order in which they were found; a token's place is its id.
    size: the size that was asked for.
    coverage: the share of the text's characters, spaces aside, that the
      vocabulary has.
    unknown: the share of the text's words that are encoded as `[UNK]`.
  """

  tokens: tuple[str, ...]
  size: int
  coverage: float
  unknown: float

  @property
  def complete(self) -> bool:
    """Whether there was text enough for the size that was asked for."""
    return len(self.tokens) == self.size


def count_words(
  texts: Iterable[str], rules: WordRules | None = None
) -> collections.Counter[str]:
  """Counts the words of texts, split as the tokenizer splits them.

  The counts of parts of a corpus add up (`+`) to the counts of the whole.
  Memory grows with the number of different words.

  Args:
    texts: any number of texts, read once.
    rules: how text is split into words; None is an uncased model's.

  Raises:
    UserError: a text is not a string, or `texts` is a single one.
  """
  if isinstance(texts, str):
    raise UserError("texts: expected several texts, got one string")
  rules = rules or WordRules()
  counts: collections.Counter[str] = collections.Counter()
  # Text repeats itself: only the chunks that differ go through the rules,
  # none of which look beyond white space.
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
  counts: collections.Counter[str],
  chunks: Mapping[str, int],
  rules: WordRules,
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
) -> Vocabulary:
  """Trains a vocabulary; a pure function of its arguments.

  Neither the order of the counts nor how they were gathered matters.

  Args:
    word_counts: how often each word occurs, as `count_words` counts.
    size: the size of the vocabulary, special tokens included.
    min_frequency: how often two pieces must meet to be merged.
    coverage: the share of the characters' occurrences that the vocabulary
      must have; the rarest characters beyond it are left out.
    max_words: pieces are grown from this many of the most frequent words;
      bounds the memory, at about 2 KB a word.
    special_tokens: the first tokens.

  Returns:
    The vocabulary; `complete` says whether it has the size asked for.

  Raises:
    UserError: there are no words, or `size` has no room for the special
      tokens and the characters.
  """
  known = sorted(
    (word, count)
    for word, count in word_counts.items()
    if count > 0 and 0 < len(word) <= MAX_CHARACTERS
  )
  if not known:
    raise UserError("vocabulary: there are no words to train on")
  characters, covered = _alphabet(known, coverage)
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
      f" tokens and {len(alphabet)} characters need {least}; ask for a larger"
      f" size or a lower coverage than {coverage}"
    )
  spelt_total = sum(count for _, count in spelt)
  if len(spelt) > max_words:
    spelt.sort(key=lambda item: (-item[1], item[0]))
    spelt = sorted(spelt[:max_words])
  pieces = _grow(spelt, alphabet, size - len(special_tokens), min_frequency)
  return Vocabulary(
    tokens=(*special_tokens, *pieces),
    size=size,
    coverage=covered,
    unknown=1 - spelt_total / sum(word_counts.values()),
  )


def _alphabet(
  known: Sequence[tuple[str, int]], coverage: float
) -> tuple[set[str], float]:
  """The most frequent characters that make up `coverage`, and their share."""
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
  return kept, covered / everything


def _grow(
  spelt: Sequence[tuple[str, int]],
  alphabet: Sequence[str],
  size: int,
  min_frequency: int,
) -> list[str]:
  """Merges the most frequent pair of pieces until there are `size` pieces."""
  pieces = list(alphabet)
  ids = {piece: id for id, piece in enumerate(pieces)}
  text = _Text(spelt, ids)
  counts, places = text.pairs()

  def entry(pair: _Pair) -> tuple[int, str, str, _Pair]:
    return -counts[pair], pieces[pair[0]], pieces[pair[1]], pair

  # The heap is lazy: a count that has fallen is put right when it comes up.
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
    piece = left + right.removeprefix(PREFIX)
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
  return pieces


class _Text:
  """All words as one doubly linked list of pieces.

  A place is an index into the lists; a merged pair keeps its left place. -1
  ends a word.
  """

  def __init__(self, spelt: Sequence[tuple[str, int]], ids: dict[str, int]):
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
      ids[character if place == 0 else PREFIX + character]
      for word, _ in spelt
      for place, character in enumerate(word)
    ]

  def pairs(self) -> tuple[dict[_Pair, int], dict[_Pair, list[int]]]:
    """How often each pair of pieces occurs, and its places."""
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
    """Makes `pair` the piece `new` everywhere.

    Returns:
      By how much the counts of the neighbouring pairs change. Their new
      `places` are added; old places stay and are recognised when visited.
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
