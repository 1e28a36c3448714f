"""Hides words of a sequence and says what they were.

`create_masked_lm_predictions` of Google's `create_pretraining_data.py`
(Devlin et al. 2018, appendix A.1), in NumPy.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32

from bert_jax.text.tokenizer import SpecialIds


@dataclasses.dataclass(frozen=True, eq=False)
class Masking:
  """What to hide, and how.

  Attributes:
    special: the ids that are never hidden. `[UNK]` is among them: there is
      nothing to learn from it. (Google's script may hide it.)
    vocabulary_size: random ids are drawn from the whole vocabulary.
    continuations: for each id, whether its piece continues a word; given,
      words are hidden whole.
    max_predictions: the most tokens to hide, and the length of the targets.
    rate: the share of tokens to hide, counting the special ones.
    mask_share: of the hidden tokens, the share that become `[MASK]`.
    random_share: the share that become a random id; the rest stay.
  """

  special: SpecialIds
  vocabulary_size: int
  continuations: Bool[np.ndarray, "vocabulary"] | None
  max_predictions: int
  rate: float
  mask_share: float
  random_share: float

  @functools.cached_property
  def may_hide(self) -> Bool[np.ndarray, "vocabulary"]:
    """Which ids may be hidden."""
    table = np.ones(self.vocabulary_size, bool)
    table[list(dataclasses.astuple(self.special))] = False
    return table


class Masked(NamedTuple):
  """A sequence with words hidden, and the targets.

  Attributes:
    token_ids: the sequence as the model sees it.
    positions: where words are hidden, ascending; unused slots are 0.
    ids: the ids that were there; unused slots are 0.
    weights: 1 for a hidden token, 0 for an unused slot. Only this tells
      them apart: id 0 and position 0 are as good as any other.
  """

  token_ids: Int32[np.ndarray, "length"]
  positions: Int32[np.ndarray, "predictions"]
  ids: Int32[np.ndarray, "predictions"]
  weights: Float32[np.ndarray, "predictions"]


def mask(
  token_ids: Int32[np.ndarray, "length"],
  masking: Masking,
  rng: np.random.Generator,
) -> Masked:
  """Hides `rate` of the tokens, at least one, at most `max_predictions`.

  None are hidden where there is nothing but special tokens, or where, of
  whole words, none is short enough for the budget.

  Args:
    token_ids: a sequence with its special tokens and without padding.
    masking: what to hide, and how.
    rng: draws the tokens to hide and their replacements.
  """
  budget = max(1, round(len(token_ids) * masking.rate))
  budget = min(masking.max_predictions, budget)
  candidates = np.flatnonzero(masking.may_hide[token_ids])
  if masking.continuations is None:
    chosen = rng.permutation(candidates)[:budget]
    chosen.sort()
  else:
    continues = masking.continuations[token_ids[candidates]]
    chosen = _whole_words(candidates, continues, budget, rng)

  count = len(chosen)
  hidden = token_ids[chosen]
  fate = rng.random(count)
  anything = rng.integers(0, masking.vocabulary_size, count)
  shown = np.where(
    fate < masking.mask_share,
    masking.special.mask,
    np.where(
      fate < masking.mask_share + masking.random_share, anything, hidden
    ),
  )
  token_ids = token_ids.copy()
  token_ids[chosen] = shown
  positions, ids = np.zeros((2, masking.max_predictions), np.int32)
  weights = np.zeros(masking.max_predictions, np.float32)
  positions[:count], ids[:count], weights[:count] = chosen, hidden, 1
  return Masked(token_ids, positions, ids, weights)


def _whole_words(
  candidates: Int[np.ndarray, "n"],
  continues: Bool[np.ndarray, "n"],
  budget: int,
  rng: np.random.Generator,
) -> Int[np.ndarray, "m"]:
  """Positions of words in random order, leaving out what overflows."""
  if not len(candidates):
    return candidates
  starts = ~continues
  # A piece whose word is cut off, or interrupted, stands for a word.
  starts[0] = True
  starts[1:] |= np.diff(candidates) > 1
  word = np.cumsum(starts) - 1
  sizes = np.bincount(word)
  order = rng.permutation(len(sizes))
  taken = np.zeros(len(sizes), bool)
  for index, size in zip(order.tolist(), sizes[order].tolist()):
    if size <= budget:
      taken[index] = True
      budget -= size
      if not budget:
        break
  return candidates[taken[word]]
