"""Masking for the masked-LM task, vectorised over sequences.

The rules are those of `create_masked_lm_predictions` in Google's
`create_pretraining_data.py` (Devlin et al. 2018, appendix A.1).
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64, UInt64

from bert_jax.data import counter_rng
from bert_jax.text.tokenizer import SpecialIds

# The uses of random numbers, whose positions are those of tokens.
_PURPOSES = _ORDER, _FATE, _REPLACEMENT = range(3)
# The number of positions reserved for the tokens of a sequence.
_TOKENS = 1 << 16


@dataclasses.dataclass(frozen=True, eq=False)
class Masking:
  """The settings of masking.

  Attributes:
    special: ids that are never masked. They include `[UNK]`, from which there
      is nothing to learn; Google's script may mask it.
    vocabulary_size: random replacement ids are less than this.
    continuations: whether each id continues a word; if given, whole words are
      masked.
    max_predictions: the maximum number of masked tokens of a sequence.
    rate: the fraction of tokens to mask, special tokens included in the count.
    mask_share: the fraction of masked tokens replaced by `[MASK]`.
    random_share: the fraction of masked tokens replaced by a random id; the
      rest are unchanged.
  """

  special: SpecialIds
  vocabulary_size: int
  continuations: Bool[np.ndarray, "vocabulary"] | None
  max_predictions: int
  rate: float
  mask_share: float
  random_share: float

  @functools.cached_property
  def maskable(self) -> Bool[np.ndarray, "vocabulary"]:
    """Whether each id may be masked."""
    table = np.ones(self.vocabulary_size, bool)
    table[list(dataclasses.astuple(self.special))] = False
    return table


class Masked(NamedTuple):
  """Concatenated sequences with masked tokens, and the original tokens.

  `positions` are the indices of the masked tokens, ascending; `ids` their
  original ids.
  """

  token_ids: Int32[np.ndarray, "tokens"]
  positions: Int64[np.ndarray, "hidden"]
  ids: Int32[np.ndarray, "hidden"]


def mask(
  token_ids: Int32[np.ndarray, "tokens"],
  lengths: Int[np.ndarray, "sequences"],
  numbers: Int64[np.ndarray, "sequences"],
  masking: Masking,
  key: UInt64[np.ndarray, "1"],
  marked: Bool[np.ndarray, "tokens"] | None = None,
) -> Masked:
  """Masks tokens of each sequence, at least 1 and at most `max_predictions`.

  No token is masked in a sequence of special tokens only, or, with whole words,
  if every word is longer than the number of tokens to mask. The masks of a
  sequence depend on its number, not on the other sequences.

  Args:
    token_ids: concatenated sequences with special tokens, without padding.
    lengths: the number of tokens of each sequence, less than 65,536.
    numbers: a number for each sequence, at least 0; its random numbers depend
      on it.
    masking: the settings.
    key: the key of the random numbers.
    marked: the tokens that continue a word besides those with an id in
      `masking.continuations`, if any.
  """
  candidates = np.flatnonzero(masking.maskable[token_ids])
  owner = np.repeat(np.arange(len(lengths)), lengths)[candidates]
  within = candidates - (np.cumsum(lengths) - lengths)[owner]
  position = (numbers[owner] * _TOKENS + within) * len(_PURPOSES)
  order = counter_rng.random_bits(key, position + _ORDER)
  wanted = np.rint(lengths * masking.rate).astype(np.int64)
  budgets = np.clip(wanted, 1, masking.max_predictions)
  if masking.continuations is None:
    chosen = _first(owner, order, budgets)
  else:
    continues = masking.continuations[token_ids[candidates]]
    if marked is not None:
      continues |= marked[candidates]
    # A continuation after a gap or at the start counts as a word.
    continues[:1] = False
    continues[1:] &= np.diff(candidates) == 1
    chosen = _whole_words(owner, ~continues, order, budgets)

  places, position = candidates[chosen], position[chosen]
  hidden = token_ids[places]
  fate = counter_rng.uniform(key, position + _FATE)
  anything = counter_rng.uniform(key, position + _REPLACEMENT)
  token_ids = token_ids.copy()
  token_ids[places] = np.where(
    fate < masking.mask_share,
    masking.special.mask,
    np.where(
      fate < masking.mask_share + masking.random_share,
      (anything * masking.vocabulary_size).astype(np.int32),
      hidden,
    ),
  )
  return Masked(token_ids, places, hidden)


def _sorted(
  owner: Int64[np.ndarray, "n"], order: UInt64[np.ndarray, "n"]
) -> Int64[np.ndarray, "n"]:
  """The indices sorted by owner, and in random order within each."""
  # One sort key: the owner above 40 random bits.
  keys = (owner.astype(np.uint64) << np.uint64(40)) | (order >> np.uint64(24))
  return np.argsort(keys, kind="stable")


def _first(
  owner: Int64[np.ndarray, "n"],
  order: UInt64[np.ndarray, "n"],
  budgets: Int64[np.ndarray, "sequences"],
) -> Int64[np.ndarray, "m"]:
  """Random tokens of each sequence, as many as its budget, ascending."""
  rank = counter_rng.index_in_group(np.bincount(owner))
  return np.sort(_sorted(owner, order)[rank < budgets[owner]])


def _whole_words(
  owner: Int64[np.ndarray, "n"],
  starts: Bool[np.ndarray, "n"],
  order: UInt64[np.ndarray, "n"],
  budgets: Int64[np.ndarray, "sequences"],
) -> Int64[np.ndarray, "m"]:
  """Tokens of random words; words that exceed the budget are passed over."""
  first = np.flatnonzero(starts)
  word = np.cumsum(starts) - 1
  sizes = np.bincount(word, minlength=len(first))
  shuffled = _sorted(owner[first], order[first])
  left, taken = budgets.tolist(), []
  for place, sequence, size in zip(
    shuffled.tolist(), owner[first[shuffled]].tolist(), sizes[shuffled].tolist()
  ):
    if size <= left[sequence]:
      left[sequence] -= size
      taken.append(place)
  is_taken = np.zeros(len(first), bool)
  is_taken[taken] = True
  return np.flatnonzero(is_taken[word])
