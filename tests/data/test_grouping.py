"""Batches of examples of similar length."""

import jax
import numpy as np
import pytest

from bert_jax.data import grouping
from bert_jax.data.grouping import Axes, LengthGroupedStream
from bert_jax.types import Batch
from tests.errors import user_error

AXES = Axes(per_token=frozenset({"tags"}), fixed=frozenset({"values"}))
LENGTHS = (8, 16, 24)


def example(number, length):
  """An example that says which it is, with a target of each kind."""
  ids = np.full(length, number, np.int32)
  targets = {
    "weights": np.ones((), np.float32),
    "tags": ids + 1000,
    "values": np.full(3, number, np.float32),
  }
  return Batch(
    ids, 0 * ids, np.arange(length, dtype=np.int32), ids * 0 + 1, targets
  )


def examples(count=103, seed=0):
  lengths = np.random.default_rng(seed).integers(2, 25, count)
  return [example(n + 1, length) for n, length in enumerate(lengths)]


def stream(given=None, batch_size=4, seed=3, start=None):
  given = examples() if given is None else given
  return LengthGroupedStream(given, AXES, LENGTHS, batch_size, seed, start)


def take(of, count, first=0):
  return [of.batch(first + i, range(of.batch_size)) for i in range(count)]


def numbers(batch):
  """Which examples a batch has; rows that only pad are none."""
  used = batch.sequence_ids[:, 0] > 0
  return batch.token_ids[used, 0].tolist()


def test_every_example_comes_once_an_epoch_each_in_its_own_order():
  of = stream()
  assert of.batches_per_epoch == 26
  orders = []
  for epoch in range(3):
    batches = take(of, 26, 26 * epoch)
    orders.append([n for batch in batches for n in numbers(batch)])
    assert sorted(orders[-1]) == [*range(1, 104)]
  assert orders[0] != orders[1] != orders[2]


def test_shapes_are_few_whatever_the_epoch():
  shapes = {
    jax.tree.map(np.shape, batch).token_ids for batch in take(stream(), 200)
  }
  assert shapes <= {(4, length) for length in LENGTHS}
  kinds = {str(jax.tree.map(np.shape, batch)) for batch in take(stream(), 200)}
  assert len(kinds) == len(shapes)


def test_a_batch_is_as_long_as_its_longest_example_needs():
  sizes = {n: x.token_ids.size for n, x in enumerate(examples(), 1)}
  for batch in take(stream(), 26):
    longest = max(sizes[n] for n in numbers(batch))
    expected = min(length for length in LENGTHS if length >= longest)
    assert batch.token_ids.shape == (4, expected)


def test_grouping_saves_most_of_the_padding():
  given = examples(1000)
  used = sum(x.token_ids.size for x in given)
  batches = take(stream(given, batch_size=8), 125)
  grouped = sum(batch.token_ids.size for batch in batches)
  # Random batches would nearly all be 24 long.
  assert used / (1000 * 24) < 0.6
  assert used / grouped > 0.72


def test_examples_keep_what_they_are_and_padding_counts_nothing():
  given = examples()
  for batch in take(stream(given), 26):
    for row in range(4):
      size = int((batch.sequence_ids[row] > 0).sum())
      rest = given[batch.token_ids[row, 0] - 1] if size else example(0, 0)
      for name in ("token_ids", "segment_ids", "position_ids", "sequence_ids"):
        found = getattr(batch, name)[row]
        np.testing.assert_array_equal(found[:size], getattr(rest, name))
        assert not found[size:].any()
      tags = batch.targets["tags"][row]
      np.testing.assert_array_equal(tags[:size], rest.targets["tags"])
      assert not tags[size:].any()
      values = batch.targets["values"][row]
      np.testing.assert_array_equal(values, rest.targets["values"])
      assert batch.targets["weights"][row] == (size > 0)


def test_the_last_batch_is_filled_up_with_blank_rows():
  rows = [len(numbers(batch)) for batch in take(stream(), 26)]
  assert sorted(rows) == [3] + [4] * 25
  (batch,) = take(stream(examples(1)), 1)
  assert numbers(batch) == [1]
  assert batch.targets["weights"].tolist() == [1, 0, 0, 0]


def test_what_can_give_no_batches_is_refused():
  with user_error(r"config\.data\.train: there are no ex"):
    stream([])
  with user_error(r"config\.seed: expected 0"):
    stream(seed=-1)


def test_other_targets_grow_to_powers_of_two():
  def plain(size):
    ids = np.ones(size, np.int32)
    return Batch(ids, ids, ids, ids, {"other": np.ones((size, 3))})

  batch = grouping.pad([plain(5), plain(2), plain(3)])
  assert batch.token_ids.shape == (4, 16)
  assert batch.targets["other"].shape == (4, 8, 4)
  assert batch.targets["other"].sum() == 3 * (5 + 2 + 3)
  assert grouping.pad([plain(5)], rows=3).token_ids.shape == (3, 16)


@pytest.mark.parametrize(
  ("size", "expected"), [(1, 8), (8, 8), (9, 16), (24, 24), (25, 32), (33, 64)]
)
def test_buckets_go_on_in_powers_of_two(size, expected):
  assert grouping.bucket(LENGTHS, size) == expected


def test_a_shape_is_compiled_once_padding_has_cost_as_much():
  shapes = grouping.Shapes(worth=1000)
  assert shapes.choose(4, 24) == (4, 24)
  assert shapes.choose(32, 64) == (32, 64)  # Nothing is as large.
  assert shapes.choose(4, 24) == (4, 24)
  assert shapes.choose(1, 16) == (4, 24)  # The smallest that is large enough.
  assert [shapes.choose(32, 48) for _ in range(3)] == [
    (32, 64),  # 512 tokens of padding.
    (32, 48),
    (32, 48),
  ]
  assert shapes.choose(8, 16) == (8, 16)  # At once more than it is worth.
  assert shapes.choose(1, 8, kind="other") == (1, 8)


@pytest.mark.parametrize(
  "lengths,size,counts",
  [
    ([], 32, []),
    ([300], 32, [1]),
    ([256] * 3 + [16] * 30, 32, [4, 29]),  # 33 rows of 256 would cost more.
    ([64] * 40, 16, [16, 16, 8]),
    ([32] * 60, 48, [32, 28]),  # 48 would be padded to 64.
    ([40, 24], 32, [2]),  # Padding that costs less than a compilation.
  ],
)
def test_long_examples_do_not_share_batches_with_many_short_ones(
  lengths, size, counts
):
  assert grouping.Shapes(worth=1000).split(lengths, size) == counts
