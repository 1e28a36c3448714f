import itertools

import numpy as np
import pytest

from bert_jax.data.pretraining import packing


def pack(lengths, row_length=512, max_sequences=4, seed=0):
  lengths = np.array(lengths, np.uint16)
  return packing.pack(
    lengths, row_length, max_sequences, np.random.default_rng(seed)
  )


def rows_of(packed):
  return np.split(packed.sequences, packed.starts[1:-1])


def real_lengths(count, seed=0):
  """As text gives them: half of them full, the rest of any length."""
  rng = np.random.default_rng(seed)
  short = np.clip(rng.lognormal(5, 1, count), 5, 512)
  return np.where(rng.random(count) < 0.5, 512, short).astype(np.uint16)


def best_fit(lengths, row_length, max_sequences):
  """Best fit decreasing, one sequence after the other: rows as lengths."""
  rows = []
  for length in sorted(lengths, reverse=True):
    fitting = [
      row
      for row in rows
      if sum(row) + length <= row_length and len(row) < max_sequences
    ]
    if fitting:
      max(fitting, key=sum).append(length)
    else:
      rows.append([length])
  return rows


@pytest.mark.parametrize("max_sequences", [1, 2, 3, 16])
@pytest.mark.parametrize("row_length", [16, 128, 512])
def test_every_sequence_is_in_one_row_that_it_fits(max_sequences, row_length):
  rng = np.random.default_rng(row_length)
  lengths = rng.integers(3, row_length + 1, 1000)
  packed = pack(lengths, row_length, max_sequences)
  assert sorted(packed.sequences) == [*range(1000)]
  assert packed.starts[0] == 0 and packed.starts[-1] == 1000
  totals = [lengths[row].sum() for row in rows_of(packed)]
  assert max(totals) <= row_length
  sizes = np.diff(packed.starts.astype(int))
  assert sizes.min() >= 1 and sizes.max() <= max_sequences
  assert packed.efficiency == pytest.approx(
    sum(totals) / row_length / len(totals)
  )
  if max_sequences == 1:
    assert len(totals) == 1000


@pytest.mark.parametrize("max_sequences", [2, 3, 100])
def test_rows_are_as_many_as_best_fit_one_by_one_finds(max_sequences):
  for seed in range(30):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 65, rng.integers(1, 80)).tolist()
    packed = pack(lengths, 64, max_sequences, seed)
    expected = best_fit(lengths, 64, max_sequences)
    assert len(packed.starts) - 1 <= 1.02 * len(expected) + 1


def test_short_sequences_are_not_left_to_rows_of_their_own():
  # Headings beside paragraphs.
  rng = np.random.default_rng(0)
  lengths = [*rng.integers(3, 13, 300), *rng.integers(50, 513, 300)]
  packed = pack(lengths, 512, 4)
  assert packed.efficiency > 0.95
  assert len(packed.starts) - 1 < 0.9 * len(best_fit(lengths, 512, 4))


def test_rows_are_nearly_as_few_as_any_packing_could_make():
  for max_sequences, fill in ((3, 0.985), (4, 0.995), (100, 0.999)):
    packed = pack(real_lengths(20_000), 512, max_sequences)
    assert packed.efficiency > fill


@pytest.mark.parametrize(
  ("lengths", "row_length", "max_sequences", "rows"),
  [
    ([7], 16, 4, 1),
    ([16] * 9, 16, 4, 9),  # all full
    ([4] * 9, 16, 4, 3),
    ([4] * 9, 16, 2, 5),  # no row may have more
    ([8, 8, 5, 5, 6], 16, 4, 2),
    ([1] * 100, 16, 1000, 7),
    ([9, 9, 9], 16, 4, 3),  # nothing goes together
  ],
)
def test_small_cases(lengths, row_length, max_sequences, rows):
  packed = pack(lengths, row_length, max_sequences)
  assert len(packed.starts) - 1 == rows
  assert packed.efficiency == pytest.approx(sum(lengths) / rows / row_length)


def test_a_seed_gives_rows_and_another_gives_others():
  lengths = np.random.default_rng(0).choice([100, 150, 210, 300], 1000)
  first, again, other = (pack(lengths, seed=seed) for seed in (1, 1, 2))
  for left, right in zip(first[:2], again[:2]):
    np.testing.assert_array_equal(left, right)
  assert first.efficiency == other.efficiency
  assert not np.array_equal(first.sequences, other.sequences)
  # The company that a sequence keeps is another one too.
  pairs = [
    {
      pair
      for row in rows_of(packed)
      for pair in itertools.combinations(sorted(row.tolist()), 2)
    }
    for packed in (first, other)
  ]
  assert len(pairs[0] & pairs[1]) < 0.1 * len(pairs[0])


def test_rows_come_in_random_order():
  lengths = real_lengths(5000)
  rows = rows_of(pack(lengths))
  # So the first tenth of them is like all: some evaluate on that.
  whole, part = (
    np.mean([len(row) for row in chosen]) for chosen in (rows, rows[:300])
  )
  assert part == pytest.approx(whole, rel=0.15)
