import collections

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
