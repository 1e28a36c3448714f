import numpy as np
import pytest

from bert_jax.data import masking
from bert_jax.text.tokenizer import SpecialIds

SPECIAL = SpecialIds(pad=0, unknown=1, cls=2, sep=3, mask=4)
VOCABULARY = 1000


def make(**changes):
  options = {
    "special": SPECIAL,
    "vocabulary_size": VOCABULARY,
    "continuations": None,
    "max_predictions": 20,
    "rate": 0.15,
    "mask_share": 0.8,
    "random_share": 0.1,
  }
  return masking.Masking(**(options | changes))


def sequence(length, seed=0):
  """`[CLS] a [SEP] b [SEP]` with `length` tokens."""
  ids = np.random.default_rng(seed).integers(5, VOCABULARY, length)
  ids[0], ids[length // 2], ids[-1] = SPECIAL.cls, SPECIAL.sep, SPECIAL.sep
  return ids.astype(np.int32)


@pytest.mark.parametrize(
  ("length", "count"),
  [(4, 1), (5, 1), (10, 2), (30, 4), (100, 15), (128, 19), (200, 20)],
)
def test_count_is_berts(length, count):
  # min(20, max(1, round(0.15 * length))), special tokens counted.
  masked = masking.mask(sequence(length), make(), np.random.default_rng(0))
  assert masked.weights.sum() == count
  assert masked.weights.tolist() == [1.0] * count + [0.0] * (20 - count)


def test_targets_restore_the_sequence():
  for seed in range(50):
    ids = sequence(100, seed)
    masked = masking.mask(ids, make(), np.random.default_rng(seed))
    used = masked.weights > 0
    positions = masked.positions[used]
    assert (np.diff(positions) > 0).all()
    assert not np.isin(ids[positions], [0, 1, 2, 3, 4]).any()
    restored = masked.token_ids.copy()
    restored[positions] = masked.ids[used]
    np.testing.assert_array_equal(restored, ids)
    assert (masked.positions[~used] == 0).all()
    assert (masked.ids[~used] == 0).all()
    for array in (masked.token_ids, masked.positions, masked.ids):
      assert array.dtype == np.int32
    assert masked.weights.dtype == np.float32


def test_the_given_sequence_is_left_alone():
  ids = sequence(100)
  masking.mask(ids, make(), np.random.default_rng(0))
  np.testing.assert_array_equal(ids, sequence(100))


def test_shares_and_evenness():
  ids = sequence(100)
  rng = np.random.default_rng(0)
  shown, hidden, hits, drawn = [], [], np.zeros(100), []
  for _ in range(4000):
    masked = masking.mask(ids, make(), rng)
    positions = masked.positions[masked.weights > 0]
    hits[positions] += 1
    shown.append(masked.token_ids[positions])
    hidden.append(ids[positions])
  shown, hidden = np.concatenate(shown), np.concatenate(hidden)
  is_mask, is_kept = shown == SPECIAL.mask, shown == hidden
  assert abs(is_mask.mean() - 0.8) < 0.01
  assert abs(is_kept.mean() - 0.1) < 0.01
  drawn = shown[~is_mask & ~is_kept]
  assert abs(len(drawn) / len(shown) - 0.1) < 0.01
  # Random tokens come from the whole vocabulary, evenly.
  assert drawn.min() < 5 and drawn.max() > VOCABULARY - 5
  assert abs(drawn.mean() - VOCABULARY / 2) < 20
  # Any token is hidden as often as any other: 15 of 97.
  content = hits[~np.isin(ids, [2, 3])]
  np.testing.assert_allclose(content, 4000 * 15 / 97, rtol=0.2)


@pytest.mark.parametrize(
  ("mask_share", "random_share"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]
)
def test_shares_follow_the_options(mask_share, random_share):
  ids = sequence(100)
  options = make(mask_share=mask_share, random_share=random_share)
  masked = masking.mask(ids, options, np.random.default_rng(0))
  shown = masked.token_ids[masked.positions[masked.weights > 0]]
  original = masked.ids[masked.weights > 0]
  if mask_share:
    assert (shown == SPECIAL.mask).all()
  else:
    assert (shown == original).mean() == (0 if random_share else 1)


def test_rate_follows_the_options():
  masked = masking.mask(
    sequence(100), make(rate=0.3, max_predictions=76), np.random.default_rng(0)
  )
  assert masked.weights.sum() == 30 and masked.weights.shape == (76,)


@pytest.mark.parametrize("whole_word", [False, True])
def test_nothing_but_special_tokens(whole_word):
  continuations = np.zeros(VOCABULARY, bool) if whole_word else None
  masked = masking.mask(
    np.array([2, 1, 3], np.int32),
    make(continuations=continuations),
    np.random.default_rng(0),
  )
  assert masked.weights.sum() == 0
  assert masked.token_ids.tolist() == [2, 1, 3]


def words_of(ids, continuations):
  """Positions by word, as Google's script groups `##` pieces."""
  words = []
  for position, token in enumerate(ids):
    if token in (0, 1, 2, 3, 4):
      words.append(None)
    elif words and words[-1] is not None and continuations[token]:
      words[-1].append(position)
    else:
      words.append([position])
  return [word for word in words if word is not None]


def reference_whole_words(ids, continuations, budget, rng):
  """Google's loop over shuffled words."""
  words = words_of(ids, continuations)
  taken = []
  for index in rng.permutation(len(words)):
    if len(taken) >= budget:
      break
    if len(taken) + len(words[index]) > budget:
      continue
    taken += words[index]
  return sorted(taken)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.95])
def test_whole_words_equal_google_loop(share):
  continuations = np.random.default_rng(1).random(VOCABULARY) < share
  for seed in range(60):
    ids = sequence(20 + 3 * seed, seed)
    masked = masking.mask(
      ids, make(continuations=continuations), np.random.default_rng(seed)
    )
    budget = min(20, max(1, round(len(ids) * 0.15)))
    rng = np.random.default_rng(seed)
    expected = reference_whole_words(ids, continuations, budget, rng)
    assert masked.positions[masked.weights > 0].tolist() == expected


def test_a_word_longer_than_the_budget_is_left_out():
  continuations = np.zeros(VOCABULARY, bool)
  continuations[100:] = True
  ids = np.array([2, 50, *range(100, 110), 3], np.int32)
  for seed in range(20):
    masked = masking.mask(
      ids, make(continuations=continuations), np.random.default_rng(seed)
    )
    assert masked.weights.sum() == 0  # one word of 11 pieces, a budget of 2


def test_equal_generators_mask_alike():
  first, second = (
    masking.mask(sequence(100), make(), np.random.default_rng(5))
    for _ in range(2)
  )
  for left, right in zip(first, second):
    np.testing.assert_array_equal(left, right)
