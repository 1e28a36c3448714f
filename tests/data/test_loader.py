import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from bert_jax import settings
from bert_jax.data import loader
from bert_jax.data import stream as stream_lib
from bert_jax.data.pretraining.examples import (
  ExamplesConfig,
  PretrainingExamples,
)
from bert_jax.text.tokenizer import SpecialIds
from bert_jax.types import Batch
from tests import pytrees
from tests.data.memory_corpus import make_corpus
from tests.errors import user_error


class Counting:
  """Examples that say which they are; epochs of 10, 11, 12, ... of them."""

  def __init__(self, base=10, broken=None):
    self.base = base
    self.broken = broken

  def epoch_length(self, epoch):
    return self.base + epoch

  def batch(self, epoch, indices):
    for index in indices:
      assert 0 <= index < self.epoch_length(epoch)
      if (epoch, index) == self.broken:
        raise settings.UserError(
          f"config.data.corpus: record {index} is damaged"
        )
    ids = np.array([[epoch, index] for index in indices], np.int32)
    weights = {"weights": np.ones(len(ids), np.float32)}
    return Batch(ids, ids, ids, np.ones_like(ids), weights)


def names(batches):
  """(epoch, index) of every row."""
  return [tuple(row) for batch in batches for row in batch.token_ids.tolist()]


def take(count, stream, *args, **kwargs):
  with loader.training_batches(stream, *args, **kwargs) as batches:
    return [next(batches) for _ in range(count)]


def test_epochs_follow_without_gap_each_in_its_own_order():
  drawn = names(take(11, stream_lib.Stream(Counting(), 3, seed=1)))
  assert len(drawn) == 33  # 10 + 11 + 12
  parts = drawn[:10], drawn[10:21], drawn[21:]
  for epoch, part in enumerate(parts):
    assert sorted(part) == [(epoch, index) for index in range(10 + epoch)]
    assert part != sorted(part)
  orders = [[index for _, index in part if index < 10] for part in parts]
  assert orders[0] != orders[1] != orders[2]


def test_long_epochs_are_shuffled_too(monkeypatch):
  monkeypatch.setattr(stream_lib, "_SMALL", 0)
  drawn = names(take(10, stream_lib.Stream(Counting(300), 30, seed=1)))
  assert sorted(drawn) == [(0, index) for index in range(300)]
  assert drawn != sorted(drawn)


def test_shuffle_is_even():
  # Each example comes at each place of an epoch about equally often.
  counts = np.zeros((10, 10))
  stream = stream_lib.Stream(Counting(0), 1, 0, {"epoch": 10, "index": 0})
  examples = stream._examples
  examples.epoch_length = lambda epoch: 10
  for position in range(10 * 600):
    ((_, index),) = stream.batch(position, [0]).token_ids
    counts[position % 10, index] += 1
  assert counts.min() > 20 and counts.max() < 120  # 60 each


def test_position_names_what_is_consumed():
  stream = stream_lib.Stream(Counting(), 4, seed=0)
  assert stream.position_after(0) == {"epoch": 0, "index": 0}
  assert stream.position_after(2) == {"epoch": 0, "index": 8}
  assert stream.position_after(3) == {"epoch": 1, "index": 2}


def test_hosts_share_the_rows_of_each_batch():
  stream = stream_lib.Stream(Counting(), 6, seed=5)
  alone = names(take(5, stream))
  for hosts in (2, 3, 6):
    share = 6 // hosts
    shares = [
      take(5, stream, range(begin, begin + share))
      for begin in range(0, 6, share)
    ]
    together = [
      row for step in zip(*shares) for share in step for row in names([share])
    ]
    assert together == alone


def test_workers_do_not_change_the_batches():
  stream = stream_lib.Stream(
    Counting(), 4, seed=5, start={"epoch": 1, "index": 3}
  )
  expected = names(take(9, stream))
  batches = take(9, stream, workers=2)
  assert names(batches) == expected
  # Plain arrays, that outlive the workers' shared memory.
  assert {type(batch.token_ids) for batch in batches} == {np.ndarray}


def test_rows_are_made_some_at_a_time(monkeypatch):
  config = ExamplesConfig(max_length=32, max_predictions=5, max_sequences=3)
  examples = PretrainingExamples(
    make_corpus(30, vocabulary=1000),
    SpecialIds(0, 1, 2, 3, 4),
    1000,
    np.zeros(1000, bool),
    config,
    seed=0,
  )
  stream = stream_lib.Stream(examples, 40, seed=0)
  whole = take(4, stream)
  monkeypatch.setattr(stream_lib, "_AT_ONCE", 7)
  for left, right in zip(take(4, stream), whole):
    pytrees.assert_equal(left, right)


def test_an_error_surfaces_once_and_as_itself():
  for workers in (0, 1):
    stream = stream_lib.Stream(Counting(40, broken=(0, 17)), 4, seed=0)
    expected = [
      i for _, i in names(take(10, stream_lib.Stream(Counting(40), 4, 0)))
    ]
    good = expected.index(17) // 4
    with loader.training_batches(stream, workers=workers) as batches:
      drawn = names(next(batches) for _ in range(good))
      assert [index for _, index in drawn] == expected[: good * 4]
      with user_error() as caught:
        next(batches)
    assert str(caught.value) == "config.data.corpus: record 17 is damaged"


def test_closing_twice():
  batches = loader.training_batches(stream_lib.Stream(Counting(), 2, 0))
  next(batches)
  batches.close()
  batches.close()


@pytest.mark.skipif(not os.path.exists("/proc"), reason="looks into /proc")
def test_a_killed_worker_is_an_error_and_no_hang():
  stream = stream_lib.Stream(Counting(), 3, seed=1)
  before = set(multiprocessing.active_children())
  with loader.training_batches(stream, workers=1) as batches:
    next(batches)
    (worker,) = set(multiprocessing.active_children()) - before
    os.kill(worker.pid, signal.SIGKILL)
    with user_error("exit code -9"):
      for _ in range(10):  # Some are ready beforehand.
        next(batches)


def test_workers_end_with_a_killed_parent():
  program = """
    import multiprocessing, os
    from bert_jax.data import loader, stream
    from tests.data.test_loader import Counting

    if __name__ == "__main__":
      batches = loader.training_batches(stream.Stream(Counting(), 2, 0),
                                        workers=1)
      next(batches)
      (worker,) = multiprocessing.active_children()
      print(worker.pid, flush=True)
      os.kill(os.getpid(), 9)
  """
  done = subprocess.run(
    [sys.executable, "-c", textwrap.dedent(program)],
    stdout=subprocess.PIPE,
    stderr=subprocess.DEVNULL,  # which the worker holds open while it lives
    timeout=60,
    check=False,
  )
  assert done.returncode == -signal.SIGKILL
  # stdout reached its end, so the worker has closed it too.
  worker = int(done.stdout)
  assert not pathlib.Path(f"/proc/{worker}/cmdline").exists() or (
    "(zombie)" in pathlib.Path(f"/proc/{worker}/status").read_text()
  )


def test_evaluation_is_in_order_and_filled_up_without_weight():
  with loader.evaluation_batches(Counting(), 4) as batches:
    found = list(batches)
  assert [len(batch.token_ids) for batch in found] == [4, 4, 4]
  assert names(found)[:10] == [(0, index) for index in range(10)]
  assert found[-1].targets["weights"].tolist() == [1, 1, 0, 0]
  sequences = found[-1].sequence_ids.tolist()
  assert sequences == [[1, 1], [1, 1], [0, 0], [0, 0]]


@pytest.mark.parametrize(("limit", "rows"), [(3, 3), (8, 8), (99, 10)])
def test_evaluation_limit(limit, rows):
  with loader.evaluation_batches(Counting(), 4, limit) as batches:
    weights = np.concatenate([batch.targets["weights"] for batch in batches])
  assert weights.sum() == rows and len(weights) == -(-rows // 4) * 4


def test_a_limited_evaluation_is_a_sample_of_all_examples():
  drawn, again = (
    [index for _, index in names(batches)]
    for batches in (
      list(loader.evaluation_batches(Counting(1000), 50, 200)),
      list(loader.evaluation_batches(Counting(1000), 100, 200)),
    )
  )
  assert drawn == again == sorted({*drawn})
  # Of each half about as many: those of the start are not preferred.
  assert 80 < sum(index < 500 for index in drawn) < 120
  assert drawn[-1] > 900


def test_user_errors():
  stream = stream_lib.Stream(Counting(), 6, seed=0)
  with user_error(r"evaluation\.batch_size.*0"):
    loader.evaluation_batches(Counting(), 0)
  with user_error(r"config\.workers.*-1"):
    loader.training_batches(stream, workers=-1)
  with user_error(r"config\.batch_size.*0"):
    stream_lib.Stream(Counting(), 0, seed=0)
  with user_error(r"config\.seed.*-3"):
    stream_lib.Stream(Counting(), 1, seed=-3)
  with user_error("no examples"):
    stream_lib.Stream(Counting(0), 1, seed=0).batch(0, [0])
  with user_error(r"config\.evaluation\.examples"):
    loader.evaluation_batches(Counting(), 4, 0)
