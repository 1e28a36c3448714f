"""Prefetched batches, made by Grain in a thread or in worker processes.

Grain reads a random-access sequence of whole batches. So neither the number of
workers nor that of hosts changes the batch of a step, and a checkpoint needs
only one position.
"""

import contextlib
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

from bert_jax.data.stream import BatchStream, Examples, concatenate, draw
from bert_jax.settings import UserError
from bert_jax.types import Batch

# The number of batches that each process prefetches.
_PREFETCHED = 2


class Batches(Iterator[Batch], contextlib.AbstractContextManager):
  """An iterator over prefetched batches of NumPy arrays; a context manager."""

  def __init__(self, iterator: grain.DatasetIterator[Batch], shared: bool):
    """Starts prefetching; `shared` is memory shared with a worker process."""
    self._iterator = iterator
    self._shared = shared
    # Also at exit, before the modules that closing needs are unloaded.
    self._close = weakref.finalize(self, iterator.close)
    iterator.start_prefetch()

  def __next__(self) -> Batch:
    assert self._close.alive, "the batches are closed"
    try:
      batch = next(self._iterator)
    except RuntimeError as error:
      # Grain has no exception class for this.
      died = re.search(
        r"terminated unexpectedly with (exit code \S+)\.", str(error)
      )
      if died is None:
        raise
      raise UserError(
        f"config.workers: a worker process ended with {died[1]}; -9 means that"
        " it was killed, most likely for lack of memory: try fewer workers"
      ) from error
    # Shared memory is unmapped with its array, so views of it must be copied.
    return jax.tree.map(np.array, batch) if self._shared else batch

  def close(self) -> None:
    """Stops threads and worker processes; may be called twice."""
    self._close()
    self._iterator = None

  def __exit__(self, *exception: object) -> None:
    self.close()


def training_batches(
  stream: BatchStream, rows: Sequence[int] | None = None, workers: int = 0
) -> Batches:
  """The batches of a stream from its start, without end.

  Prefetching starts immediately. An error in a thread or worker process is
  raised by the `next` that would have returned the batch.

  `rows` are those of each batch that this host makes; None for all. Without
  `workers`, a thread makes the batches.

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
  """The batches of epoch 0 in order, once.

  With a limit, they are a sample of this number of examples; see `stream.draw`.
  The last batch is padded with rows of zeros, which have weight 0.

  Raises:
    UserError: `batch_size` is less than 1, `workers` is negative, or there are
      no examples.
  """
  if batch_size < 1:
    raise UserError(
      f"config.evaluation.batch_size: expected at least 1, got {batch_size}"
    )
  count = examples.epoch_length(0)
  drawn = draw(count, limit)
  if not len(drawn):
    raise UserError(
      f"config.evaluation.examples: {limit} of {count} examples; expected at"
      " least 1"
    )
  return _prefetch(_EvaluationBatches(examples, batch_size, drawn), workers)


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
  drawn: np.ndarray

  def __len__(self) -> int:
    return -(-len(self.drawn) // self.batch_size)

  def __getitem__(self, index: int) -> Batch:
    begin = index * self.batch_size
    own = self.drawn[begin : begin + self.batch_size].tolist()
    found = self.examples.batch(0, own)
    missing = self.batch_size - len(own)
    blank = jax.tree.map(
      lambda x: np.zeros((missing, *x.shape[1:]), x.dtype), found
    )
    return concatenate([found, blank])


def _prefetch(
  batches: _TrainingBatches | _EvaluationBatches, workers: int
) -> Batches:
  if workers < 0:
    raise UserError(f"config.workers: expected 0 or more, got {workers}")
  # Making examples holds the GIL: more threads are no faster.
  dataset = grain.MapDataset.source(batches).to_iter_dataset(
    grain.ReadOptions(num_threads=1, prefetch_buffer_size=_PREFETCHED)
  )
  if workers:
    # Grain reads flags of absl, which only absl.app.run parses.
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
  """Makes a worker process end with its parent, and not at Ctrl-C."""
  del index, count
  # Ctrl-C reaches all processes of the terminal; the parent stops workers.
  signal.signal(signal.SIGINT, signal.SIG_IGN)
  # A parent that was killed stops no workers.
  threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
  multiprocessing.parent_process().join()
  os._exit(1)
