"""The thread that computes, and those that tokenize."""

import asyncio
import collections
import contextlib
import dataclasses
import queue as queues
import threading
import time
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from bert_jax.batch import Batch
from bert_jax.serving import batching, tracing
from bert_jax.serving.batching import Job, Queue, Row, Work
from bert_jax.serving.errors import ServingError

# Requests of fewer characters are tokenized by the thread that computes, if
# it is idle: waking another thread would take longer.
_SMALL = 4_000
_TOKENIZING_THREADS = 2
# A batch that takes longer is stuck.
_STUCK_SECONDS = 120.0


class Engine:
  """Computes the rows of all models of a process, one batch at a time.

  Requests come from an event loop; they are tokenized in threads, wait in the
  queue of their model, and are computed by one thread, the oldest row first.
  The answers of a batch go back to the event loop in one call.
  """

  def __init__(self, max_wait: float = 0.0):
    """Starts the threads.

    Args:
      max_wait: seconds that a row waits for others while nothing is computed.
    """
    self._max_wait = max_wait
    # Reentrant: a model may be freed, and its queue removed, at any place.
    self._wake = threading.Condition(threading.RLock())
    self._queues: list[Queue] = []
    # To be tokenized by the thread that computes.
    self._direct: collections.deque[Job] = collections.deque()
    self._raw: queues.SimpleQueue[Job | None] = queues.SimpleQueue()
    self._jobs: set[Job] = set()
    self._is_idle = self._is_stopped = False
    self._started: float | None = None
    self._threads = [
      threading.Thread(target=self._run, name="engine", daemon=True)
    ]
    for number in range(_TOKENIZING_THREADS):
      name = f"tokenizer {number}"
      self._threads.append(
        threading.Thread(target=self._tokenize, name=name, daemon=True)
      )
    for thread in self._threads:
      thread.start()

  @property
  def live(self) -> bool:
    """Whether the threads run, and no batch takes for ever."""
    started = self._started
    return all(thread.is_alive() for thread in self._threads) and (
      started is None or time.monotonic() - started < _STUCK_SECONDS
    )

  @property
  def pending(self) -> int:
    """The number of requests that are not answered."""
    return len(self._jobs)

  def add(self, queue: Queue) -> None:
    """Adds the queue of a model."""
    with self._wake:
      self._queues = [*self._queues, queue]

  def remove(self, queue: Queue) -> None:
    """Removes the queue of a model for which no requests come any more."""
    with self._wake:
      self._queues = [x for x in self._queues if x is not queue]

  def stop(self) -> None:
    """Answers what waits with `unavailable`, and ends the threads."""
    with self._wake:
      self._is_stopped = True
      self._wake.notify_all()
    for _ in range(_TOKENIZING_THREADS):
      self._raw.put(None)
    error = ServingError("unavailable", "the server is shutting down")
    self._deliver([(job, error) for job in list(self._jobs)])

  # In the event loop.

  async def run(
    self,
    queue: Queue,
    work: Work,
    items: Sequence[Any],
    deadline: float | None = None,
    partial: bool = False,
  ) -> Job:
    """Computes the answers for items; the finished job has them.

    Args:
      queue: of the model.
      work: what to compute.
      items: for what.
      deadline: of `time.monotonic()`.
      partial: whether wrong items get an error in place of an answer.

    Raises:
      ServingError: the queue is full, the deadline is past, an item is wrong,
        or the computation failed.
    """
    job = Job(work, items, deadline, partial, tracing.current())
    timer = None
    if deadline is not None:
      left = deadline - job.arrival
      if left <= 0:
        raise batching.late()
      loop = asyncio.get_running_loop()
      timer = loop.call_later(left, self._expire, job)
    try:
      self._submit(queue, job)
      await job.future
    except asyncio.CancelledError:
      self._drop(job)
      raise
    finally:
      self._jobs.discard(job)
      if timer is not None:
        timer.cancel()
    return job

  def _submit(self, queue: Queue, job: Job) -> None:
    with self._wake:
      if self._is_stopped:
        raise ServingError("unavailable", "the server is shutting down")
      size = queue.admit(job)
      self._jobs.add(job)
      if self._is_idle and size <= _SMALL:
        self._is_idle = False
        self._direct.append(job)
        self._wake.notify()
        return
    self._raw.put(job)

  def _drop(self, job: Job) -> None:
    with self._wake:
      if job.queue is not None:
        job.queue.drop(job)

  def _expire(self, job: Job) -> None:
    self._drop(job)
    if not job.future.done():
      job.future.set_exception(batching.late())

  # In the threads.

  def _deliver(self, found: Sequence[tuple[Job, ServingError | None]]) -> None:
    """Gives requests their error, or says that their answers are there."""
    loops: dict[Any, list[tuple[Job, ServingError | None]]] = {}
    for job, error in found:
      loops.setdefault(job.future.get_loop(), []).append((job, error))
    for loop, own in loops.items():
      # The loop may have been closed without waiting for its requests.
      with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_resolve, own)

  def _tokenize(self) -> None:
    while (job := self._raw.get()) is not None:
      self._prepare(job)
      del job

  def _prepare(self, job: Job) -> None:
    """Tokenizes a request and puts its rows into the queue."""
    assert job.queue is not None
    started = time.perf_counter()
    found = batching.guarded(job.prepare)
    job.queue.metrics.tokenization(time.perf_counter() - started)
    if isinstance(found, ServingError) or not found:
      self._drop(job)
      self._deliver([(job, found or None)])
      return
    with self._wake:
      if not job.is_closed:
        job.queue.put(job)
        self._wake.notify()

  def _run(self) -> None:
    # A batch that an accelerator computes while the next one is made.
    pending: _Started | None = None
    while True:
      rows = self._next(wait=pending is None)
      if rows is None:
        return
      started = self._start(rows) if rows else None
      if pending is not None:
        self._end(pending)
        pending = None
      if started is not None and started.queue.shapes.rows:
        pending = started
      elif started is not None:
        self._end(started)
      # What is held here while the thread waits is not freed.
      del rows, started

  def _next(self, wait: bool) -> list[Row] | None:
    """The rows of the next batch; None if the engine is stopped.

    Without `wait`, they may be none.
    """
    while True:
      direct, taken, queue = None, [], None
      with self._wake:
        if self._is_stopped:
          return None
        if self._direct:
          direct = self._direct.popleft()
        elif (oldest := self._oldest()) is not None:
          arrival, kind, queue = oldest
          delay = arrival + self._max_wait - time.monotonic()
          if delay > 0 and not queue.is_full(kind):
            self._wake.wait(delay)
            continue
          taken = queue.take(kind)
        elif wait:
          self._is_idle = True
          self._wake.wait()
          self._is_idle = False
          continue
        else:
          return []
      if direct is not None:
        self._prepare(direct)
        continue
      refused = dict(queue.refused(taken))
      if not refused:
        return taken
      for job in refused:
        self._drop(job)
      self._deliver([*refused.items()])
      if kept := [row for row in taken if row.job not in refused]:
        return kept

  def _oldest(self) -> tuple[float, Hashable, Queue] | None:
    """When the oldest row arrived, its kind and its queue."""
    heads = (
      (*head, queue)
      for queue in self._queues
      if (head := queue.oldest()) is not None
    )
    return min(heads, key=lambda head: head[0], default=None)

  def _start(self, rows: list[Row]) -> "_Started | None":
    """Computes a batch, or starts to."""
    queue = rows[0].job.queue
    assert queue is not None
    self._started = now = time.monotonic()
    for row in rows:
      queue.metrics.queue(now - row.job.arrival)
    began = time.time_ns()
    found = batching.guarded(batching.compute, rows, queue.shapes)
    if isinstance(found, ServingError):
      self._fail(rows, found)
      return None
    return _Started(rows, queue, began, *found)

  def _end(self, started: "_Started") -> None:
    """Makes the answers of a batch, and of the requests that it completes."""
    rows, queue, batch = started.rows, started.queue, started.batch
    error = batching.guarded(batching.predict, rows, batch, started.outputs)
    if error is not None:
      self._fail(rows, error)
      return
    tokens = batch.token_ids.size
    queue.computed(rows, tokens, (time.time_ns() - started.began) / 1e9)
    tracing.record_batch(started.began, rows, tokens)
    done = []
    for row in rows:
      row.job.left -= 1
      if not row.job.left and not row.job.is_closed:
        done.append((row.job, batching.guarded(row.job.finish)))
    self._started = None
    self._deliver(done)

  def _fail(self, rows: Sequence[Row], error: ServingError) -> None:
    """Fails the one request of a batch; computes several one by one.

    One that is wrong, or too large for the memory, fails alone.
    """
    jobs: dict[Job, list[Row]] = {}
    for row in rows:
      jobs.setdefault(row.job, []).append(row)
    if len(jobs) > 1:
      for own in jobs.values():
        if (started := self._start(own)) is not None:
          self._end(started)
    else:
      self._drop(rows[0].job)
      self._deliver([(rows[0].job, error)])
    self._started = None


@dataclasses.dataclass(slots=True, eq=False)
class _Started:
  """A batch whose outputs are there, or are being computed.

  Attributes:
    rows: that it computes.
    queue: of their model.
    began: when, in nanoseconds of `time.time_ns()`.
    batch: the padded rows.
    outputs: of the model.
  """

  rows: list[Row]
  queue: Queue
  began: int
  batch: Batch
  outputs: Mapping[str, Any]


def _resolve(found: Sequence[tuple[Job, ServingError | None]]) -> None:
  """In the event loop: wakes those who wait for these requests."""
  for job, error in found:
    if job.future.done():
      continue
    if error is None:
      job.future.set_result(None)
    else:
      job.future.set_exception(error)
