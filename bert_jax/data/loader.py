"""From examples to batches: shuffled, sharded over hosts, prefetched.

Grain draws ahead, in a thread or in worker processes. What it draws from is
a random-access view of whole batches, so that neither the number of workers
nor that of hosts changes what a step sees, and one position is all that a
checkpoint needs.
"""

import dataclasses
import multiprocessing
import os
import re
import signal
import sys
import threading
import weakref
from collections.abc import Iterator, Sequence

import grain
import jax
import numpy as np
from absl import flags

from bert_jax.data.stream import BatchStream, Examples, concatenate
from bert_jax.settings import UserError
from bert_jax.types import Batch

# Batches that are ready beforehand, in each process that makes them.
_PREFETCHED = 2


class Batches(Iterator[Batch]):
  """Batches of NumPy arrays that are drawn ahead; a context manager."""

  def __init__(self, iterator: grain.DatasetIterator[Batch], shared: bool):
    """Begins to draw.

    Args:
      iterator: gives the batches.
      shared: whether they lie in memory that is shared with a worker.
    """
    self._iterator = iterator
    self._shared = shared
    # Also at exit, while the modules that closing needs are still there.
    self._close = weakref.finalize(self, iterator.close)
    iterator.start_prefetch()

  def __next__(self) -> Batch:
    assert self._close.alive, "the batches are closed"
    try:
      batch = next(self._iterator)
    except RuntimeError as error:
      # Grain's words; it has no class of its own for this.
      died = re.search(
        r"terminated unexpectedly with (exit code \S+)\.", str(error)
      )
      if died is None:
        raise
      raise UserError(
        f"config.workers: a process that makes batches ended with {died[1]};"
        " -9 is killed, most likely for want of memory: try fewer"
      ) from error
    # Shared memory is unmapped with its array, whoever still looks at it.
    return jax.tree.map(np.array, batch) if self._shared else batch

  def close(self) -> None:
    """Ends threads and workers; closing twice does no harm."""
    self._close()
    self._iterator = None

  def __enter__(self) -> "Batches":
    return self

  def __exit__(self, *exception: object) -> None:
    self.close()


def training_batches(
  stream: BatchStream,
  rows: Sequence[int] | None = None,
  workers: int = 0,
) -> Batches:
  """Rows of the batches of a stream, from its start, without end.

  They are drawn ahead from now on. An error in a thread or a worker is
  raised by the `next` that would have given its batch.

  Args:
    stream: what to draw from, the same on all hosts; with workers, its
      examples must pickle.
    rows: those of each batch that this host draws, None for all.
    workers: processes that make batches; 0 makes them in a thread.

  Raises:
    UserError: `workers` is negative.
  """
  rows = range(stream.batch_size) if rows is None else rows
  return _prefetch(_TrainingBatches(stream, rows), workers)


def evaluation_batches(
  examples: Examples,
  batch_size: int,
  limit: int | None = None,
  workers: int = 0,
) -> Batches:
  """The batches of epoch 0, in order, once.

  The last batch is filled up with rows of zeros: all padding, of no weight.

  Args:
    examples: what to draw from.
    batch_size: rows of a batch.
    limit: at most so many examples.
    workers: as in `training_batches`.

  Raises:
    UserError: as `training_batches`, or the batch size is less than 1, or
      `limit` leaves no examples.
  """
  if batch_size < 1:
    raise UserError(
      f"config.evaluation.batch_size: expected at least 1, got {batch_size}"
    )
  count = examples.epoch_length(0)
  if limit is not None:
    count = min(count, limit)
  if count < 1:
    raise UserError(
      f"config.evaluation.examples: {limit} of"
      f" {examples.epoch_length(0)} examples leaves nothing to evaluate on"
    )
  batches = _EvaluationBatches(examples, batch_size, count)
  return _prefetch(batches, workers)


@dataclasses.dataclass(frozen=True)
class _TrainingBatches:
  stream: BatchStream
  rows: Sequence[int]

  def __len__(self) -> int:
    return sys.maxsize

  def __getitem__(self, index: int) -> Batch:
    return self.stream.batch(index, self.rows)


@dataclasses.dataclass(frozen=True)
class _EvaluationBatches:
  examples: Examples
  batch_size: int
  count: int

  def __len__(self) -> int:
    return -(-self.count // self.batch_size)

  def __getitem__(self, index: int) -> Batch:
    begin = index * self.batch_size
    end = min(begin + self.batch_size, self.count)
    found = self.examples.batch(0, range(begin, end))
    missing = begin + self.batch_size - end
    blank = jax.tree.map(
      lambda x: np.zeros((missing, *x.shape[1:]), x.dtype), found
    )
    return concatenate([found, blank])


def _prefetch(
  batches: _TrainingBatches | _EvaluationBatches, workers: int
) -> Batches:
  if workers < 0:
    raise UserError(f"config.workers: expected 0 or more, got {workers}")
  # Making examples holds the interpreter's lock: more threads are no faster.
  dataset = grain.MapDataset.source(batches).to_iter_dataset(
    grain.ReadOptions(num_threads=1, prefetch_buffer_size=_PREFETCHED)
  )
  if workers:
    # Grain reads absl's flags, which only absl.app.run parses.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    dataset = dataset.mp_prefetch(
      grain.MultiprocessingOptions(
        num_workers=workers, per_worker_buffer_size=_PREFETCHED
      ),
      worker_init_fn=_begin_worker,
    )
  return Batches(iter(dataset), shared=workers > 0)


def _begin_worker(index: int, count: int) -> None:
  """Ties a worker's end to its parent's, and to nothing else."""
  del index, count
  # Ctrl-C reaches every process of the terminal; the parent closes us.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  # A parent that was killed closes nobody.
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)
