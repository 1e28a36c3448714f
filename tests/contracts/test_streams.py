"""A contract over every stream of training batches."""

import pickle
from concurrent import futures

import jax
import numpy as np
import pytest

from bert_jax.data.stream import Stream
from tests import pytrees
from tests.data import test_grouping, test_loader, test_mixing

STREAMS = {
  # Batches of 7 span several epochs of 4, 5, 6, ... examples.
  "epochs": lambda seed=3: Stream(test_loader.Counting(4), 7, seed),
  "lengths": lambda seed=3: test_grouping.stream(seed=seed),
  "mixed": lambda seed=3: test_mixing.mixed({"a": 3, "b": 7}, seed=seed),
}


@pytest.fixture(params=STREAMS)
def make(request):
  return STREAMS[request.param]


def take(stream, indices):
  return [stream.batch(i, range(stream.batch_size)) for i in indices]


def assert_equal(batches, others):
  for one, other in zip(batches, others, strict=True):
    pytrees.assert_equal(one, other)


def test_a_batch_depends_on_the_seed_and_its_index_alone(make):
  expected = take(make(), range(60))
  indices = (59, 0, 30, 26, 3)
  copy = pickle.loads(pickle.dumps(make()))
  assert_equal(take(copy, indices), [expected[i] for i in indices])
  with pytest.raises(AssertionError):
    assert_equal(take(make(seed=4), range(60)), expected)


def test_threads_may_share_a_stream(make):
  stream = make()
  with futures.ThreadPoolExecutor(4) as pool:
    found = pool.map(lambda i: take(stream, [i])[0], range(80))
  assert_equal(list(found), take(make(), range(80)))


@pytest.mark.parametrize("consumed", [0, 1, 17, 25, 26, 27, 60, 1030])
def test_a_resumed_stream_continues_exactly(make, consumed):
  whole = make()
  resumed = make().at(make().position_after(consumed))
  expected = take(whole, range(consumed, consumed + 30))
  assert_equal(take(resumed, range(30)), expected)
  assert resumed.position_after(5) == whole.position_after(consumed + 5)


def test_any_rows_are_those_of_the_whole_batch(make):
  stream = make()
  last = stream.batch_size - 1
  for index, whole in enumerate(take(stream, range(60))):
    for rows in ([0], [last], [0, last], [last, 0]):
      expected = jax.tree.map(lambda x, rows=rows: x[np.array(rows)], whole)
      pytrees.assert_equal(stream.batch(index, rows), expected)
