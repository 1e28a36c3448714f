"""N-gram language models, a floor for the scores of encoders."""

import collections
import itertools
import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Self

_DISCOUNT = 0.75
_START, _END = "<s>", "</s>"

_Gram = tuple[Hashable, ...]


class NgramModel:
  """An n-gram model with interpolated Kneser-Ney smoothing.

  As in Chen and Goodman (1999), "An empirical study of smoothing techniques for
  language modeling", with one discount, 0.75. Below single tokens it is
  uniform over the vocabulary, so that no text is impossible.

  >>> model = NgramModel.train([["the", "cat"], ["the", "mat"]], order=2)
  >>> model.score(["the", "cat"]) > model.score(["cat", "the"])
  True
  """

  def __init__(self, counts: Sequence[dict[_Gram, int]], size: int):
    """Takes what `train` counts: of 1-grams, 2-grams ..., and the vocabulary.

    Counts of less than the greatest order are of different tokens before.
    """
    self._counts, self._size = counts, size
    self._totals: collections.Counter[_Gram] = collections.Counter()
    self._kinds: collections.Counter[_Gram] = collections.Counter()
    for gram, count in itertools.chain.from_iterable(x.items() for x in counts):
      self._totals[gram[:-1]] += count
      self._kinds[gram[:-1]] += 1

  @classmethod
  def train(cls, texts: Iterable[Sequence[Hashable]], order: int = 3) -> Self:
    """The model of some texts.

    Args:
      texts: each a sequence of tokens, such as words or ids.
      order: the tokens of the longest n-gram, at least 1.
    """
    longest: collections.Counter[_Gram] = collections.Counter()
    for text in texts:
      longest.update(_grams(text, order))
    counts = [longest]
    for _ in range(order - 1):
      counts.append(collections.Counter(gram[1:] for gram in counts[-1]))
    # And one for all that were not seen.
    return cls(counts[::-1], len(counts[-1]) + 1)

  def score(self, text: Sequence[Hashable]) -> float:
    """The log-probability of a text with its end, natural logarithm."""
    order = len(self._counts)
    return sum(math.log(self.probability(g)) for g in _grams(text, order))

  def probability(self, gram: _Gram) -> float:
    """The probability of the last token of an n-gram, given the others.

    `<s>` stands before a text and `</s>` after it.
    """
    if not gram:
      return 1 / self._size
    shorter = self.probability(gram[1:])
    context = gram[:-1]
    if not (total := self._totals[context]):
      return shorter
    count = self._counts[len(gram) - 1].get(gram, 0)
    left = _DISCOUNT * self._kinds[context]
    return (max(count - _DISCOUNT, 0) + left * shorter) / total


def _grams(text: Sequence[Hashable], order: int) -> Iterable[_Gram]:
  padded = [*[_START] * (order - 1), *text, _END]
  return zip(*(padded[n:] for n in range(order)))
