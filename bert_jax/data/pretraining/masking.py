"""Hides words of sequences and says what they were.

`create_masked_lm_predictions` of Google's `create_pretraining_data.py`
(Devlin et al. 2018, appendix A.1), in NumPy, for many sequences at once.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64, UInt64

from bert_jax.data import counter_rng
from bert_jax.text.tokenizer import SpecialIds

# What a random number is drawn for; its position is that of a token.
_PURPOSES = _ORDER, _FATE, _REPLACEMENT = range(3)
# A sequence's tokens have positions of their own, so many at most.
_TOKENS = 1 << 16


@dataclasses.dataclass(frozen=True, eq=False)
class Masking:
  """What to hide, and how.

  Attributes:
    special: the ids that are never hidden. `[UNK]` is among them: there is
      nothing to learn from it. (Google's script may hide it.)
    vocabulary_size: random ids are drawn from the whole vocabulary.
    continuations: for each id, whether its piece continues a word; given,
      words are hidden whole.
    max_predictions: the most tokens of a sequence to hide.
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
  def maskable(self) -> Bool[np.ndarray, "vocabulary"]:
    """Which ids may be hidden."""
    table = np.ones(self.vocabulary_size, bool)
    table[list(dataclasses.astuple(self.special))] = False
    return table

  def budgets(
    self, lengths: Int[np.ndarray, "sequences"]
  ) -> Int64[np.ndarray, "sequences"]:
    """How many tokens to hide: `rate` of them, within the bounds."""
    wanted = np.rint(lengths * self.rate).astype(np.int64)
    return np.clip(wanted, 1, self.max_predictions)


class Masked(NamedTuple):
  """Sequences end to end with words hidden, and what they were.

  Attributes:
    token_ids: as the model sees them.
    places: where tokens are hidden, ascending.
    ids: the ids that were there.
  """

  token_ids: Int32[np.ndarray, "tokens"]
  places: Int64[np.ndarray, "hidden"]
  ids: Int32[np.ndarray, "hidden"]


def mask(
  token_ids: Int32[np.ndarray, "tokens"],
  lengths: Int[np.ndarray, "sequences"],
  numbers: Int64[np.ndarray, "sequences"],
  masking: Masking,
  key: UInt64[np.ndarray, "1"],
) -> Masked:
  """Hides `rate` of each sequence's tokens, from one to `max_predictions`.

  None are hidden where there is nothing but special tokens, or where, of
  whole words, none is short enough for the budget. What becomes of a sequence
  depends on its number, not on the sequences beside it.

  Args:
    token_ids: sequences end to end, with their special tokens and without
      padding.
    lengths: tokens in each, less than 65,536.
    numbers: what tells them apart, at least 0.
    masking: what to hide, and how.
    key: draws the tokens to hide and their replacements.
  """
  candidates = np.flatnonzero(masking.maskable[token_ids])
  owner = np.repeat(np.arange(len(lengths)), lengths)[candidates]
  within = candidates - (np.cumsum(lengths) - lengths)[owner]
  position = (numbers[owner] * _TOKENS + within) * len(_PURPOSES)
  order = counter_rng.random_bits(key, position + _ORDER)
  budgets = masking.budgets(lengths)
  if masking.continuations is None:
    chosen = _first(owner, order, budgets)
  else:
    continues = masking.continuations[token_ids[candidates]]
    # A piece whose word is cut off, or interrupted, stands for a word.
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
  """The places of what each owner has, in random order."""
  # In one number: 40 random bits below the owner. Equal ones keep their order.
  keys = (owner.astype(np.uint64) << np.uint64(40)) | (order >> np.uint64(24))
  return np.argsort(keys, kind="stable")


def _first(
  owner: Int64[np.ndarray, "n"],
  order: UInt64[np.ndarray, "n"],
  budgets: Int64[np.ndarray, "sequences"],
) -> Int64[np.ndarray, "m"]:
  """As many tokens of each sequence as its budget allows, ascending."""
  rank = counter_rng.index_in_group(np.bincount(owner))
  return np.sort(_sorted(owner, order)[rank < budgets[owner]])


def _whole_words(
  owner: Int64[np.ndarray, "n"],
  starts: Bool[np.ndarray, "n"],
  order: UInt64[np.ndarray, "n"],
  budgets: Int64[np.ndarray, "sequences"],
) -> Int64[np.ndarray, "m"]:
  """Tokens of words in random order, leaving out what overflows."""
  first = np.flatnonzero(starts)
  word = np.cumsum(starts) - 1
  sizes = np.bincount(word, minlength=len(first))
  shuffled = _sorted(owner[first], order[first])
  left, taken = budgets.tolist(), []
  for place, sequence, size in zip(
    shuffled.tolist(),
    owner[first[shuffled]].tolist(),
    sizes[shuffled].tolist(),
  ):
    if size <= left[sequence]:
      left[sequence] -= size
      taken.append(place)
  is_taken = np.zeros(len(first), bool)
  is_taken[taken] = True
  return np.flatnonzero(is_taken[word])
