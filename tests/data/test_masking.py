import numpy as np
import pytest

from bert_jax.data import counter_rng
from bert_jax.data.pretraining import masking
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


def mask(sequences, options=None, numbers=None, key=0):
  """Masks sequences end to end."""
  return masking.mask(
    np.concatenate(sequences),
    np.array([len(ids) for ids in sequences]),
    np.arange(len(sequences)) if numbers is None else np.array(numbers),
    options or make(),
    counter_rng.key(key),
  )


def mask_one(ids, options=None, number=0):
  return mask([ids], options, [number])


def mask_often(times, options=None):
  """Ids, places and ids as shown of one sequence, with many numbers."""
  ids = sequence(100)
  masked = mask([ids] * times, options)
  return ids, masked.positions % 100, masked.token_ids[masked.positions]


@pytest.mark.parametrize(
  ("length", "count"),
  [(4, 1), (5, 1), (10, 2), (30, 4), (100, 15), (128, 19), (200, 20)],
)
def test_count_is_berts(length, count):
  # min(20, max(1, round(0.15 * length))), special tokens counted.
  assert len(mask_one(sequence(length)).positions) == count


def test_places_and_ids_restore_the_sequences():
  sequences = [sequence(n, n) for n in range(4, 150)]
  given, masked = np.concatenate(sequences), mask(sequences)
  assert (np.diff(masked.positions) > 0).all()
  assert not np.isin(given[masked.positions], [0, 1, 2, 3, 4]).any()
  restored = masked.token_ids.copy()
  restored[masked.positions] = masked.ids
  np.testing.assert_array_equal(restored, given)
  assert masked.token_ids.dtype == masked.ids.dtype == np.int32


def test_the_given_sequence_is_left_alone():
  ids = sequence(100)
  mask_one(ids)
  np.testing.assert_array_equal(ids, sequence(100))


def test_shares_and_evenness():
  ids, places, shown = mask_often(4000)
  is_mask, is_kept = shown == SPECIAL.mask, shown == ids[places]
  assert abs(is_mask.mean() - 0.8) < 0.01
  assert abs(is_kept.mean() - 0.1) < 0.01
  drawn = shown[~is_mask & ~is_kept]
  assert abs(len(drawn) / len(shown) - 0.1) < 0.01
  # Random tokens come from the whole vocabulary, evenly.
  assert drawn.min() < 5 and drawn.max() > VOCABULARY - 5
  assert abs(drawn.mean() - VOCABULARY / 2) < 20
  # Any token is hidden as often as any other: 15 of 97.
  hits = np.bincount(places, minlength=100)
  content = hits[~np.isin(ids, [2, 3])]
  np.testing.assert_allclose(content, 4000 * 15 / 97, rtol=0.2)


@pytest.mark.parametrize(
  ("mask_share", "random_share"), [(1.0, 0.0), (0.0, 1.0), (0.0, 0.0)]
)
def test_shares_follow_the_options(mask_share, random_share):
  options = make(mask_share=mask_share, random_share=random_share)
  ids, places, shown = mask_often(20, options)
  if mask_share:
    assert (shown == SPECIAL.mask).all()
  else:
    kept = (shown == ids[places]).mean()
    assert kept < 0.05 if random_share else kept == 1


@pytest.mark.parametrize("whole_word", [False, True])
def test_nothing_but_special_tokens(whole_word):
  continuations = np.zeros(VOCABULARY, bool) if whole_word else None
  masked = mask_one(
    np.array([2, 1, 3], np.int32), make(continuations=continuations)
  )
  assert not len(masked.positions) and not len(masked.ids)
  assert masked.token_ids.tolist() == [2, 1, 3]


@pytest.mark.parametrize("whole_word", [False, True])
def test_what_becomes_of_a_sequence_does_not_depend_on_its_neighbours(
  whole_word,
):
  share = np.random.default_rng(1).random(VOCABULARY) < 0.4
  options = make(continuations=share if whole_word else None)
  sequences = [sequence(n, n) for n in (90, 5, 4, 128, 30)]
  numbers = [7, 0, 1 << 33, 8, 3]
  masked = mask(sequences, options, numbers)
  begin = 0
  for ids, number in zip(sequences, numbers):
    alone = mask_one(ids, options, number)
    end = begin + len(ids)
    np.testing.assert_array_equal(masked.token_ids[begin:end], alone.token_ids)
    own = (masked.positions >= begin) & (masked.positions < end)
    np.testing.assert_array_equal(
      masked.positions[own] - begin, alone.positions
    )
    begin = end


def test_numbers_and_keys_mask_anew():
  ids = sequence(100)
  found = [mask_one(ids, number=n).positions.tolist() for n in range(50)]
  found += [mask([ids], key=n).positions.tolist() for n in range(1, 50)]
  assert len({*map(tuple, found)}) == 99


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


def reference_whole_words(words, order, budget):
  """Google's loop over shuffled words."""
  taken = []
  for index in order:
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
    masked = mask_one(ids, make(continuations=continuations), seed)
    words = words_of(ids, continuations)
    # Words come in the order of the draws for their first tokens.
    firsts = np.array([word[0] for word in words])
    drawn = counter_rng.random_bits(
      counter_rng.key(0), 3 * ((seed << 16) + firsts)
    )
    budget = min(20, max(1, round(len(ids) * 0.15)))
    expected = reference_whole_words(words, np.argsort(drawn), budget)
    assert masked.positions.tolist() == expected


def test_a_word_longer_than_the_budget_is_left_out():
  continuations = np.zeros(VOCABULARY, bool)
  continuations[100:] = True
  ids = np.array([2, 50, *range(100, 110), 3], np.int32)
  # One word of 11 pieces, a budget of 2.
  masked = mask([ids] * 20, make(continuations=continuations))
  assert not len(masked.positions)
