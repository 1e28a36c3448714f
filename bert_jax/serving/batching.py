"""The queue of a model: admission, and batches by a budget of tokens."""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from bert_jax.batch import Batch, map_arrays
from bert_jax.data import grouping
from bert_jax.serving.errors import ServingError
from bert_jax.serving.metrics import ModelMetrics
from bert_jax.serving.settings import ServeSettings
from bert_jax.settings import UserError

_LOG = logging.getLogger("bert_jax.serving")

# Characters of a token, for what waits and is not yet tokenized.
_CHARACTERS = 4
# The share that the rate of earlier batches keeps with each new one.
_DECAY = 0.95


class Work(Protocol):
  """What is computed for the items of a request.

  Attributes:
    group: rows of works of the same group share batches, and `forward`.
  """

  group: Hashable

  def size(self, item: Any) -> int:
    """The characters of an item."""

  def rows(self, item: Any) -> list[Batch]:
    """The unbatched, unpadded rows of an item; UserError if it has none."""

  def pad(self, rows: Sequence[Batch], shape: tuple[int, int]) -> Batch:
    """Rows as a batch of so many rows of so many tokens."""

  def forward(self, batch: Batch) -> Mapping[str, Any]:
    """The outputs for a batch."""

  def predict(
    self, outputs: Mapping[str, Any], batch: Batch, items: Sequence[Any]
  ) -> list[Any]:
    """The prediction for each of the first rows, which are of these items."""

  def finish(self, item: Any, predictions: list[Any]) -> Any:
    """The answer for an item, from the predictions for its rows."""


@dataclasses.dataclass(slots=True, eq=False)
class Row:
  """A row that waits, or is computed.

  Attributes:
    example: the unbatched row.
    kind: rows of the same kind can be stacked, and have one forward pass.
    length: its tokens; of several texts, those of the longest.
    width: its number of texts.
    job: the request that it is of.
    item: the place of its item in the request.
    prediction: what was computed.
  """

  example: Batch
  kind: Hashable
  length: int
  width: int
  job: "Job"
  item: int
  prediction: Any = None

  @property
  def tokens(self) -> int:
    """Its tokens; texts of one row are padded."""
    return self.length * self.width


class Job:
  """The part of a request that is computed, from the queue to its answers.

  Attributes:
    work: what is computed.
    items: for what.
    deadline: of `time.monotonic()`, after which nothing is computed.
    partial: whether an item that is wrong leaves the others alone.
    arrival: when it was accepted, of `time.monotonic()`.
    answers: by item: the answer, or the error where `partial`.
    tokens: of all rows, without padding.
    is_closed: whether nobody waits for it any more.
    future: of the answers; of the event loop.
    context: of the request's trace.
  """

  __slots__ = (
    "answers",
    "arrival",
    "context",
    "deadline",
    "future",
    "held",
    "is_closed",
    "items",
    "left",
    "partial",
    "queue",
    "rows",
    "tokens",
    "work",
  )

  def __init__(
    self,
    work: Work,
    items: Sequence[Any],
    deadline: float | None = None,
    partial: bool = False,
    context: Any = None,
  ):
    """To be called in the event loop that awaits `future`."""
    self.work, self.items = work, items
    self.deadline, self.partial = deadline, partial
    self.context = context
    self.arrival = time.monotonic()
    self.answers: list[Any] = [None] * len(items)
    self.rows: list[Row] = []
    self.left = self.tokens = 0
    self.held = (0, 0)
    self.is_closed = False
    self.queue: Queue | None = None
    self.future: asyncio.Future = asyncio.get_running_loop().create_future()

  def prepare(self) -> bool:
    """Tokenizes the items.

    Returns:
      Whether there are rows to compute.

    Raises:
      ServingError: an item is wrong.
    """
    for place, item in enumerate(self.items):
      if self.is_closed:
        return False
      try:
        examples = self.work.rows(item)
      except UserError as error:
        wrong = ServingError("unprocessable", str(error), item=place)
        if not self.partial:
          raise wrong from error
        self.answers[place] = wrong
        continue
      for example in examples:
        self.rows.append(self._row(example, place))
    self.left = len(self.rows)
    return bool(self.rows)

  def _row(self, example: Batch, place: int) -> Row:
    shape = example.token_ids.shape
    kind = (self.work.group, len(shape), example.structure)
    width = shape[0] if len(shape) > 1 else 1
    self.tokens += (
      shape[0] if width == 1 else int(np.count_nonzero(example.sequence_ids))
    )
    return Row(example, kind, shape[-1], width, self, place)

  def finish(self) -> None:
    """Makes the answers of all predictions.

    Raises:
      ServingError: an option of the answers is wrong.
    """
    found: list[list[Any]] = [[] for _ in self.items]
    for row in self.rows:
      found[row.item].append(row.prediction)
    for place, predictions in enumerate(found):
      if not predictions:
        continue
      try:
        answer = self.work.finish(self.items[place], predictions)
      except UserError as error:
        answer = ServingError("unprocessable", str(error), item=place)
        if not self.partial:
          raise answer from error
      self.answers[place] = answer


@dataclasses.dataclass(frozen=True)
class Shapes:
  """The shapes of batches.

  Attributes:
    rows: the numbers of rows of compiled programs, ascending; empty where
      any shape is computed without compiling.
    lengths: the lengths of rows of compiled programs, ascending.
    slack: rows share a batch with the oldest one if their lengths differ by
      at most so many tokens, or by `share` of its length.
    share: see `slack`. A row of another length costs padding, a batch of its
      own costs time of the host and of starting kernels: on a CPU as much as
      some 16 tokens, on a GPU more than most batches take.
  """

  rows: tuple[int, ...] = ()
  lengths: tuple[int, ...] = ()
  slack: int = 16
  share: float = 0.125

  def choose(self, rows: int, length: int) -> tuple[int, int]:
    """The number of rows and the length of a batch for rows like these."""
    if not self.rows:
      return rows, length
    return grouping.bucket(self.rows, rows), grouping.bucket(
      self.lengths, length
    )


def compiled_shapes(
  max_rows: int, max_length: int, multiple: int = 1
) -> Shapes:
  """Few shapes, such that all of them can be compiled before they are needed.

  Numbers of rows are multiples of `multiple`.

  >>> compiled_shapes(64, 100)
  Shapes(rows=(1, 4, 16, 64), lengths=(16, 32, 64, 100), slack=64, share=1.0)
  """
  rows = [multiple]
  while rows[-1] < max_rows:
    most = -(-max_rows // multiple) * multiple
    rows.append(min(4 * rows[-1], most))
  lengths = [16]
  while lengths[-1] < max_length:
    lengths.append(min(2 * lengths[-1], max(max_length, 16)))
  return Shapes(tuple(rows), tuple(lengths), slack=64, share=1.0)


def writing_shapes(max_rows: int, max_length: int, multiple: int = 1) -> Shapes:
  """The shapes of sources: few, as programs that write compile for seconds.

  >>> writing_shapes(64, 100)
  Shapes(rows=(1, 8), lengths=(25, 100), slack=100, share=1.0)
  """
  most = -(-min(max_rows, 8) // multiple) * multiple
  lengths = sorted({-(-max_length // 4), max_length})
  return Shapes(
    tuple(sorted({multiple, most})), tuple(lengths), slack=max_length, share=1.0
  )


class Queue:
  """The rows of one model that wait.

  Its methods are called while the engine's lock is held, but for `failed`.

  Attributes:
    rows: the number of rows that wait; not yet tokenized ones are estimated.
    tokens: the same of tokens.
    shapes: of batches.
    metrics: of the model.
  """

  def __init__(
    self,
    settings: ServeSettings,
    shapes: Shapes,
    metrics: ModelMetrics,
    max_batch_tokens: int,
  ):
    """An empty queue.

    Args:
      settings: the limits.
      shapes: of batches.
      metrics: of the model.
      max_batch_tokens: of a batch, with padding.
    """
    self.shapes, self.metrics = shapes, metrics
    self.rows = self.tokens = 0
    self._settings, self._budget = settings, max_batch_tokens
    # Of each kind, the oldest first.
    self._waiting: dict[Hashable, list[Row]] = {}
    self._computed_tokens = self._seconds = 0.0

  def admit(self, job: Job) -> int:
    """Accepts a whole request, or refuses it.

    Returns:
      The characters of its items.

    Raises:
      ServingError: the queue is full.
    """
    limits, size = self._settings, sum(map(job.work.size, job.items))
    rows, tokens = len(job.items), size // _CHARACTERS + 2 * len(job.items)
    # An empty queue accepts what would fill it alone.
    if self.rows and (
      self.rows + rows > limits.max_queue_rows
      or self.tokens + tokens > limits.max_queue_tokens
      or self.seconds > limits.queue_timeout
    ):
      raise self.overloaded("the queue is full")
    job.queue = self
    self._hold(job, rows, tokens)
    return size

  def overloaded(self, reason: str) -> ServingError:
    """The error of a request that is refused now."""
    return ServingError(
      "overloaded", f"{reason}; try again later", retry_after=self.seconds
    )

  @property
  def seconds(self) -> float:
    """How long it takes to compute what waits, by the rate of late batches."""
    if not self._computed_tokens:
      return 0.0
    return self.tokens * self._seconds / self._computed_tokens

  def _hold(self, job: Job, rows: int, tokens: int) -> None:
    """Changes how much of a job waits."""
    more_rows, more_tokens = rows - job.held[0], tokens - job.held[1]
    job.held = (rows, tokens)
    self.rows += more_rows
    self.tokens += more_tokens
    self.metrics.queue_rows(more_rows)
    self.metrics.queue_tokens(more_tokens)

  def put(self, job: Job) -> None:
    """Adds the rows of a job."""
    self._hold(job, len(job.rows), sum(row.tokens for row in job.rows))
    for row in job.rows:
      waiting = self._waiting.setdefault(row.kind, [])
      is_late = waiting and waiting[-1].job.arrival > job.arrival
      waiting.append(row)
      if is_late:
        # An older request that took longer to tokenize.
        waiting.sort(key=lambda row: row.job.arrival)

  def drop(self, job: Job) -> None:
    """Takes out what waits of a job that nobody waits for."""
    job.is_closed = True
    if job.held == (0, 0):
      return
    self._hold(job, 0, 0)
    for kind in {row.kind for row in job.rows}:
      if kind in self._waiting:
        kept = [row for row in self._waiting[kind] if row.job is not job]
        self._keep(kind, kept)

  def _keep(self, kind: Hashable, rows: list[Row]) -> None:
    if rows:
      self._waiting[kind] = rows
    else:
      self._waiting.pop(kind, None)

  def oldest(self) -> tuple[float, Hashable] | None:
    """When the oldest row arrived, and its kind."""
    heads = (
      (rows[0].job.arrival, kind) for kind, rows in self._waiting.items()
    )
    return min(heads, key=lambda head: head[0], default=None)

  def is_full(self, kind: Hashable) -> bool:
    """Whether the waiting rows of a kind are enough for a batch."""
    rows = self._waiting[kind]
    return (
      len(rows) >= self._settings.max_batch_rows
      or sum(row.tokens for row in rows) >= self._budget
    )

  def take(self, kind: Hashable) -> list[Row]:
    """The next batch: the oldest row, and others of about its length."""
    rows = iter(self._waiting[kind])
    head = next(rows)
    taken, kept = [head], []
    longest, width = head.length, head.width
    slack = max(self.shapes.slack, int(head.length * self.shapes.share))
    for row in rows:
      wanted = max(longest, row.length), max(width, row.width)
      if abs(row.length - head.length) <= slack and self._fits(
        len(taken) + 1, *wanted
      ):
        taken.append(row)
        longest, width = wanted
        if len(taken) == self._settings.max_batch_rows:
          kept += rows
          break
      else:
        kept.append(row)
    self._keep(kind, kept)
    for row in taken:
      waiting, tokens = row.job.held
      self._hold(row.job, waiting - 1, tokens - row.tokens)
    return taken

  def _fits(self, rows: int, length: int, width: int) -> bool:
    rows, length = self.shapes.choose(rows, length)
    return rows * length * width <= self._budget

  def refused(self, rows: Sequence[Row]) -> Iterator[tuple[Job, ServingError]]:
    """The jobs of these rows that waited too long, and why."""
    now, limit = time.monotonic(), self._settings.queue_timeout
    for job in {row.job: None for row in rows}:
      if job.deadline is not None and now >= job.deadline:
        yield job, late()
      elif now - job.arrival > limit:
        yield job, self.overloaded(f"the request waited {limit:g} seconds")

  def computed(self, rows: Sequence[Row], tokens: int, seconds: float) -> None:
    """Notes a batch: its rows, its tokens with padding, and its time."""
    known = sum(row.tokens for row in rows)
    self._computed_tokens = _DECAY * self._computed_tokens + known
    self._seconds = _DECAY * self._seconds + seconds
    metrics = self.metrics
    metrics.inference(seconds)
    metrics.batch_rows(len(rows))
    metrics.batch_tokens(tokens)
    metrics.input_tokens(known)
    if tokens > known:
      metrics.padding_tokens(tokens - known)


def late() -> ServingError:
  """The error of a request whose deadline is past."""
  return ServingError(
    "deadline_exceeded", "the deadline of the request is past"
  )


def compute(
  rows: Sequence[Row], shapes: Shapes
) -> tuple[Batch, Mapping[str, Any]]:
  """The batch of some rows of one kind, and the outputs for it."""
  work = rows[0].job.work
  longest = max(row.length for row in rows)
  batch = work.pad(
    [row.example for row in rows], shapes.choose(len(rows), longest)
  )
  return batch, work.forward(batch)


def predict(
  rows: Sequence[Row], batch: Batch, outputs: Mapping[str, Any]
) -> None:
  """Sets the prediction of each row.

  Rows of works with other options share a batch, and are told apart here.
  """
  works: dict[int, list[int]] = {}
  for place, row in enumerate(rows):
    works.setdefault(id(row.job.work), []).append(place)
  for places in works.values():
    work, own, part = rows[places[0]].job.work, batch, outputs
    if len(works) > 1:
      part, own = _rows_of(outputs, batch, places)
    items = [rows[i].job.items[rows[i].item] for i in places]
    for i, prediction in zip(places, work.predict(part, own, items)):
      rows[i].prediction = prediction


def _rows_of(
  outputs: Mapping[str, Any], batch: Batch, places: Sequence[int]
) -> tuple[Mapping[str, Any], Batch]:
  """Some rows of the outputs and of the batch."""
  part = {name: np.asarray(x)[places] for name, x in outputs.items()}
  return part, map_arrays(lambda _, x: np.asarray(x)[places], batch)


def guarded(function: Callable[..., Any], *arguments: Any) -> Any:
  """A function's result, or the `ServingError` that its exception becomes."""
  try:
    return function(*arguments)
  except ServingError as error:
    return error
  except UserError as error:
    return ServingError("unprocessable", str(error))
  except Exception:
    _LOG.exception("internal error")
    return ServingError("internal", "an internal error; see the server's log")
