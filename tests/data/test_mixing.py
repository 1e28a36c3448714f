import collections
import pickle

import numpy as np
import pytest

from bert_jax.data.grouping import PLAIN, LengthGroupedStream
from bert_jax.data.mixing import MixedStream
from bert_jax.types import Batch


def stream(name, batches, size=2):
  """Batches of examples that tell the stream and themselves."""
  examples = [
    Batch(*[np.full(4, 1, np.int32)] * 4, {name: np.array(i, np.int32)})
    for i in range(batches * size)
  ]
  return LengthGroupedStream(examples, PLAIN, (4,), size, seed=3)


def mixed(sizes, temperature=1.0, seed=0, start=None):
  streams = [stream(name, count) for name, count in sizes.items()]
  return MixedStream(streams, temperature, seed, start)


def drawn(of, indices):
  """The name and the examples of batches."""
  found = []
  for i in indices:
    ((name, examples),) = of.batch(i, range(of.batch_size)).targets.items()
    found.append((name, examples.tolist()))
  return found


@pytest.mark.parametrize(
  ("temperature", "shares"),
  [(1.0, (0.1, 0.9)), (2.0, (0.25, 0.75)), (1e9, (0.5, 0.5))],
)
def test_streams_are_drawn_by_the_temperature_of_their_sizes(
  temperature, shares
):
  of = mixed({"a": 3, "b": 27}, temperature)
  np.testing.assert_allclose(of.probabilities, shares, atol=1e-6)
  assert (of.batches_per_epoch, of.batch_size) == (30, 2)
  names = collections.Counter(name for name, _ in drawn(of, range(2000)))
  assert names["a"] / 2000 == pytest.approx(shares[0], abs=0.03)


def test_each_stream_is_gone_through_in_its_own_order():
  of, plain = mixed({"a": 3, "b": 7}), stream("b", 7)
  # Beyond the block of choices that are drawn together.
  found = [rows for name, rows in drawn(of, range(1500)) if name == "b"]
  assert len(found) > 800
  assert found == [
    plain.batch(i, range(2)).targets["b"].tolist() for i in range(len(found))
  ]


def test_a_batch_does_not_depend_on_what_was_drawn_before():
  sizes = {"a": 3, "b": 7}
  expected = drawn(mixed(sizes), range(1100))
  backwards = mixed(sizes)
  assert drawn(backwards, [1099, 3, 0]) == [expected[i] for i in (1099, 3, 0)]
  copy = pickle.loads(pickle.dumps(backwards))
  assert drawn(copy, range(20)) == expected[:20]
  half = mixed(sizes).batch(5, range(1, 2))
  assert half.targets[expected[5][0]].tolist() == expected[5][1][1:]


@pytest.mark.parametrize("consumed", [0, 1, 17, 1030])
def test_it_goes_on_where_it_stopped(consumed):
  sizes = {"a": 3, "b": 7}
  expected = drawn(mixed(sizes), range(consumed, consumed + 5))
  start = mixed(sizes).position_after(consumed)
  again = mixed(sizes).at(start)
  assert drawn(again, range(5)) == expected
  assert again.position_after(2) == mixed(sizes).position_after(consumed + 2)


def test_the_seed_chooses():
  orders = [
    [name for name, _ in drawn(mixed({"a": 5, "b": 5}, seed=seed), range(40))]
    for seed in (0, 0, 1)
  ]
  assert orders[0] == orders[1] != orders[2]
