"""Batches of examples of similar length."""

import pickle
import threading

import jax
import numpy as np
import pytest

from bert_jax.data import grouping
from bert_jax.data.grouping import Axes, LengthGroupedStream
from bert_jax.settings import UserError
from bert_jax.types import Batch

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


def assert_equal(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)):
    assert a.dtype == b.dtype
    np.testing.assert_array_equal(a, b)


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


@pytest.mark.parametrize("rows", [[0], [2, 3], [3, 0], range(4)])
def test_some_rows_are_those_of_the_whole_batch(rows):
  # The length and the other axes are those of the whole batch on every host.
  for index in range(26):
    whole = stream().batch(index, range(4))
    assert_equal(
      stream().batch(index, rows),
      jax.tree.map(lambda x: x[np.array(rows)], whole),
    )


def test_the_last_batch_is_filled_up_with_blank_rows():
  rows = [len(numbers(batch)) for batch in take(stream(), 26)]
  assert sorted(rows) == [3] + [4] * 25
  (batch,) = take(stream(examples(1)), 1)
  assert numbers(batch) == [1]
  assert batch.targets["weights"].tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize("consumed", [0, 1, 25, 26, 27, 60])
def test_a_resumed_stream_goes_on_exactly(consumed):
  whole, again = stream(), stream().at(stream().position_after(consumed))
  for one, other in zip(take(whole, 30, consumed), take(again, 30)):
    assert_equal(one, other)
  assert again.position_after(5) == whole.position_after(consumed + 5)


def test_batches_depend_on_seed_and_index_alone():
  of, expected = stream(), take(stream(), 60)
  for index in (59, 0, 30, 26, 3):
    assert_equal(of.batch(index, range(4)), expected[index])
  other = take(stream(seed=4), 26)
  assert [numbers(b) for b in other] != [numbers(b) for b in expected[:26]]


def test_it_pickles_and_threads_may_share_it():
  expected = take(stream(), 80)
  of = pickle.loads(pickle.dumps(stream()))
  found = {}

  def draw(indices):
    for index in indices:
      found[index] = of.batch(index, range(4))

  threads = [
    threading.Thread(target=draw, args=(range(n, 80, 4),)) for n in range(4)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(found) == 80
  for index, batch in found.items():
    assert_equal(batch, expected[index])


@pytest.mark.parametrize("hosts", [2, 4])
def test_the_rows_of_all_hosts_are_the_whole_batch(hosts):
  of, share = stream(), 4 // hosts
  for index in range(60):  # Some batches have blank rows.
    parts = [
      of.batch(index, range(host * share, (host + 1) * share))
      for host in range(hosts)
    ]
    whole = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    assert_equal(whole, of.batch(index, range(4)))


def test_what_can_give_no_batches_is_refused():
  with pytest.raises(UserError, match=r"config\.data\.train: there are no ex"):
    stream([])
  with pytest.raises(UserError, match=r"config\.seed: expected 0"):
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
