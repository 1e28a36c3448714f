"""One version of a model, and what can be asked of it."""

import asyncio
import dataclasses
import itertools
import threading
import time
import weakref
from collections.abc import (
  AsyncGenerator,
  Callable,
  Hashable,
  Mapping,
  Sequence,
)
from typing import Any

import numpy as np

from bert_jax.batch import Batch
from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.predictor import SPARSE_EMBEDDING, TOKEN_EMBEDDINGS, Predictor
from bert_jax.serving import batching
from bert_jax.serving.batching import Queue, Shapes
from bert_jax.serving.engine import Engine
from bert_jax.serving.errors import ServingError
from bert_jax.serving.metrics import Metrics
from bert_jax.serving.settings import ServeSettings
from bert_jax.settings import UserError
from bert_jax.tasks.task import Task
from bert_jax.text.pieces import Pieces
from bert_jax.text.tokenizer import Encoding

# Extra outputs that are of texts, whatever the model's task is.
_OF_TEXTS = (TOKEN_EMBEDDINGS, SPARSE_EMBEDDING)
# Works with other options that are kept.
_KEPT = 64
_JAX_TOKENS, _CPU_TOKENS = 16_384, 2_048

_numbers = itertools.count()


@dataclasses.dataclass
class Usage:
  """What a request has computed.

  Attributes:
    tokens: special ones included, and padding not.
  """

  tokens: int = 0


class Served:
  """A loaded version of a model.

  It computes for as long as somebody holds it, and is freed after that.

  Attributes:
    name: of the model.
    version: of the model.
    engine: what computes: `onnx`, `openvino` or `jax`.
    model: with its task.
    max_length: of a row, in tokens.
    max_batch_tokens: of a batch, with padding.
    loaded_at: when, in seconds since 1970.
  """

  def __init__(
    self,
    name: str,
    version: str,
    engine: str,
    model: Predictor,
    core: Engine,
    metrics: Metrics,
    settings: ServeSettings,
  ):
    """Adds a queue for the model to the engine.

    Args:
      name: of the model.
      version: of the model.
      engine: the name of what computes.
      model: the model.
      core: the thread that computes.
      metrics: of the server.
      settings: the limits.
    """
    self.name, self.version, self.engine = name, version, engine
    self.model, self.loaded_at = model, time.time()
    parts = [*model.task.parts.values()] or [model.task]
    self.max_length = max(x.inputs.limit(x.config) for x in parts)
    tokens = settings.max_batch_tokens
    if tokens is None:
      tokens = _JAX_TOKENS if engine == "jax" else _CPU_TOKENS
    self.max_batch_tokens = tokens
    self._options = settings.generation_options if model.task.writes else {}
    self._shapes = Shapes()
    if engine == "jax":
      shapes = (
        batching.writing_shapes
        if model.task.writes
        else batching.compiled_shapes
      )
      self._shapes = shapes(
        settings.max_batch_rows,
        self.max_length,
        getattr(model.forward, "multiple", 1),
      )
    self._core = core
    self._queue = Queue(settings, self._shapes, metrics.of_model(name), tokens)
    self._works: dict[Hashable, _Work] = {}
    self._groups: dict[Hashable, int] = {}
    core.add(self._queue)
    weakref.finalize(self, core.remove, self._queue)

  async def answer(
    self,
    records: Sequence[Record | str],
    *,
    options: Mapping[str, Any] | None = None,
    deadline: float | None = None,
    partial: bool = False,
    usage: Usage | None = None,
  ) -> list[Any]:
    """The task's answers, decoded.

    Args:
      records: records or texts.
      options: of the task's targets, such as `top_k`.
      deadline: of `time.monotonic()`, after which nothing is computed.
      partial: whether a record that is wrong leaves the others alone; it gets
        a `ServingError` in place of its answer.
      usage: to which the tokens are added.

    Raises:
      ServingError: a record or an option is wrong, the queue is full, or the
        deadline is past.
    """
    work = self._answering(options or {})
    return await self._run(work, _records(records), deadline, partial, usage)

  async def stream(
    self,
    record: Record | str,
    *,
    options: Mapping[str, Any] | None = None,
    deadline: float | None = None,
    usage: Usage | None = None,
  ) -> AsyncGenerator[str | None]:
    """Writes one text.

    Args:
      record: see `answer`.
      options: see `answer`.
      deadline: see `answer`.
      usage: see `answer`.

    Yields:
      Pieces of the text as they come; None last if it reached the longest
      length.

    Raises:
      ServingError: as `answer`; or the model does not write token by token.
    """
    given: asyncio.Queue[int | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def emit(id: int) -> None:
      loop.call_soon_threadsafe(given.put_nowait, id)

    work = self._streaming(options or {}, emit)
    running = loop.create_task(
      self._run(work, _records([record]), deadline, False, usage)
    )
    running.add_done_callback(lambda _: given.put_nowait(None))
    pieces, has_ended = Pieces(self.model.task.tokenizer), False
    try:
      while (id := await given.get()) is not None:
        has_ended = id == self.model.task.tokenizer.special.sep
        if not has_ended and (piece := pieces.add(id)):
          yield piece
      await running
      if piece := pieces.end():
        yield piece
      if not has_ended:
        yield None
    finally:
      work.is_stopped.set()
      running.cancel()

  async def embed(
    self,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    prompt_name: str | None = None,
    normalize: bool | None = None,
    truncate_dim: int | None = None,
    deadline: float | None = None,
    partial: bool = False,
    usage: Usage | None = None,
  ) -> list[Any]:
    """Vectors of texts, as of `Predictor.embed`: float32 [width] each.

    Arguments that are None leave the model's settings; see `Predictor.embed`
    for these, and `answer` for the others.

    Raises:
      ServingError: as `answer`.
    """
    work = self._embedding(
      prompt=prompt,
      prompt_name=prompt_name,
      normalize=normalize,
      truncate_dim=truncate_dim,
    )
    return await self._run(work, _records(texts), deadline, partial, usage)

  async def outputs(
    self,
    records: Sequence[Record | str],
    name: str,
    *,
    deadline: float | None = None,
    usage: Usage | None = None,
  ) -> list[np.ndarray]:
    """One of the model's outputs for each record, without padding.

    Args:
      records: records of the task; for `token_embeddings` and
        `sparse_embedding` texts, to which no prompt is added.
      name: of `model.forward.outputs`.
      deadline: see `answer`.
      usage: see `answer`.

    Raises:
      ServingError: as `answer`; or the model has no such output.
    """
    known = self.model.forward.outputs
    if name not in known or self.model.task.writes:
      raise ServingError(
        "unprocessable", f"the model {self.name} has no output {name[:40]!r}"
      )
    work = self._work(("output", name), lambda: self._extra(name))
    return await self._run(work, _records(records), deadline, False, usage)

  async def tokenize(
    self, texts: Sequence[str], pairs: Sequence[str | None] | None = None
  ) -> list[Encoding]:
    """The tokens of texts, or of pairs of texts, of any length.

    Raises:
      ServingError: a text is no text, or the model has no vocabulary.
    """
    tokenizer = self.model.task.tokenizer
    if tokenizer is None:
      raise ServingError(
        "unprocessable", f"the model {self.name} has no vocabulary"
      )
    given = [*zip(texts, pairs or itertools.repeat(None))]
    # In a thread: the event loop computes nothing.
    return await asyncio.to_thread(
      lambda: [tokenizer.encode(text, pair) for text, pair in given]
    )

  def info(self) -> dict[str, Any]:
    """What the status shows of it."""
    return {
      "version": self.version,
      "engine": self.engine,
      "task": self.model.task.name,
      "max_length": self.max_length,
      "loaded_at": self.loaded_at,
    }

  def try_out(self, records: Sequence[Record]) -> None:
    """Computes records here; compiles all shapes where there are such.

    Raises:
      UserError: a record does not fit the task, or an output is not finite.
    """
    work = self._answering({})
    for record in _records(records):
      examples = work.rows(record)
      shapes = {
        self._shapes.choose(len(examples), _length(examples)),
        *itertools.product(self._shapes.rows, self._shapes.lengths),
      }
      fitting = [
        (rows, length)
        for rows, length in sorted(shapes)
        if length >= _length(examples) and rows * length <= self._limit
      ]
      for shape in fitting:
        chosen = examples[: shape[0]]
        batch = work.pad(chosen, shape)
        outputs = work.forward(batch)
        for name, array in outputs.items():
          if not np.isfinite(np.asarray(array, np.float32)).all():
            raise UserError(f"the output {name} is not finite")
        if self._streams and shape[0] == self._shapes.rows[0]:
          self._streaming({}, lambda _: None).forward(batch)
      answers = work.predict(outputs, batch, [record] * len(chosen))
      work.finish(record, answers)

  @property
  def _streams(self) -> bool:
    """Whether it writes, and without beams or several texts."""
    several = ("num_beams", "num_return_sequences")
    given = (self._options.get(name, 1) for name in several)
    return self.model.task.writes and all(x == 1 for x in given)

  @property
  def _limit(self) -> int:
    """The tokens of the largest batch: a single row is always computed."""
    return max(self.max_batch_tokens, 2 * self.max_length)

  async def _run(
    self,
    work: "_Work",
    records: list[Record],
    deadline: float | None,
    partial: bool,
    usage: Usage | None,
  ) -> list[Any]:
    job = await self._core.run(self._queue, work, records, deadline, partial)
    if usage is not None:
      usage.tokens += job.tokens
    return job.answers

  # Works: cached by their options, so that equal ones are told by identity.

  def _work(self, key: Hashable, make: Callable[[], "_Work"]) -> "_Work":
    if (found := self._works.get(key)) is None:
      if len(self._works) >= _KEPT:
        self._works.clear()
      try:
        found = self._works[key] = make()
      except UserError as error:
        raise ServingError("invalid_request", str(error)) from error
    return found

  def _make(
    self,
    kind: "type[_Work]",
    task: Task,
    forward: Any,
    names: tuple[str, ...] | None = None,
    **fields: Any,
  ) -> "_Work":
    """A work; those with the same forward pass have the same group."""
    key = (id(forward), names)
    group = self._groups.setdefault(key, next(_numbers))
    exact = not self._shapes.rows
    return kind(group, task, forward, names, exact, **fields)

  def _answering(self, options: Mapping[str, Any]) -> "_Work":
    def make() -> _Work:
      task = self.model.task
      task.check_options(options)
      if task.writes:
        return self._writing(options)
      return self._make(_Work, task, self.model.forward, options=dict(options))

    key = ("answer", *map(repr, sorted(options.items())))
    return self._work(key, make)

  def _writing(self, options: Mapping[str, Any]) -> "_Writing":
    task = self.model.task
    for name in options.keys() - {"seed"}:
      raise UserError(
        f"option {name}: the server writes with the options that it was started"
        " with; a request may set the seed alone"
      )
    writer = self.model.writer(**{**self._options, **options})
    exact = not self._shapes.rows
    return _Writing(next(_numbers), task, writer, None, exact)

  def _streaming(
    self, options: Mapping[str, Any], emit: Callable[[int], None]
  ) -> "_Streaming":
    if not self._streams:
      raise ServingError(
        "unprocessable",
        f"the model {self.name} does not stream: it writes with beams, or"
        " several texts, or none",
      )
    work = self._answering(options)
    # Of another group, so that it is computed alone.
    return _Streaming(
      next(_numbers), work.task, work.function, None, work.exact, emit=emit
    )

  def _embedding(self, **changes: Any) -> "_Work":
    given = {name: x for name, x in changes.items() if x is not None}

    def make() -> _Work:
      return self._make(
        _Vectors,
        self.model.embedding_task(**given),
        self.model.embedder().forward,
        normalize=bool(given.get("normalize")),
      )

    return self._work(("embed", *given.items()), make)

  def _extra(self, name: str) -> "_Work":
    task = self.model.task
    if name in _OF_TEXTS:
      task = self.model.embedding_task(prompt="")
    return self._make(_Output, task, self.model.forward, (name,))


@dataclasses.dataclass(frozen=True, eq=False)
class _Work:
  """The answers of a task; a `batching.Work`.

  Attributes:
    group: of works with the same forward pass.
    task: the task.
    function: the forward pass.
    names: of the outputs that it computes; None for the task's heads.
    exact: whether batches have any shape.
    options: of the answers.
  """

  group: Hashable
  task: Task
  function: Any
  names: tuple[str, ...] | None
  exact: bool
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def size(self, item: Record) -> int:
    """See `batching.Work`."""
    return sum(map(_characters, item.values()))

  def rows(self, item: Record) -> list[Batch]:
    """See `batching.Work`."""
    return self.task.preprocess(item, labelled=False)

  def pad(self, rows: Sequence[Batch], shape: tuple[int, int]) -> Batch:
    """See `batching.Work`."""
    count, length = shape
    return grouping.pad(
      rows,
      self.task.axes_of(rows[0]),
      rows=count,
      grow=lambda _: length,
      exact=self.exact,
    )

  def forward(self, batch: Batch) -> Mapping[str, Any]:
    """See `batching.Work`."""
    return self.function(batch, self.names)

  def predict(
    self, outputs: Mapping[str, Any], batch: Batch, items: Sequence[Record]
  ) -> list[Any]:
    """See `batching.Work`."""
    return self.task.predict(outputs, batch, items, **self.options)

  def finish(self, item: Record, predictions: list[Any]) -> Any:
    """See `batching.Work`."""
    found = self.task.merge(item, predictions)
    return self.task.decode(item, found, **self.options)


@dataclasses.dataclass(frozen=True, eq=False)
class _Vectors(_Work):
  """Vectors of texts.

  Attributes:
    normalize: whether vectors that are cut are normalized again.
  """

  normalize: bool = False

  def finish(self, item: Record, predictions: list[Any]) -> np.ndarray:
    """The vector."""
    ((name, target),) = self.task.targets.items()
    vector = self.task.merge(item, predictions)[name]
    if self.normalize and target.truncate_dim:
      vector = vector / max(np.linalg.norm(vector), 1e-12)
    # Of its own: a view would keep the vectors of the whole batch.
    return np.array(vector, np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class _Writing(_Work):
  """Texts that are written."""

  def forward(self, batch: Batch) -> Mapping[str, Any]:
    """The arrays of `decoding.Generated`."""
    (found,) = self.function(batch).values()
    return found

  def predict(
    self, outputs: Mapping[str, Any], batch: Batch, items: Sequence[Record]
  ) -> list[Any]:
    """The texts of each row."""
    (head,) = self.function.outputs
    return self.task.predict({head: outputs}, batch, items)


@dataclasses.dataclass(frozen=True, eq=False)
class _Streaming(_Writing):
  """A text that is given away token by token while it is written.

  Attributes:
    emit: takes the tokens.
    is_stopped: set when nobody waits for more of them.
  """

  emit: Callable[[int], None] = lambda _: None
  is_stopped: threading.Event = dataclasses.field(
    default_factory=threading.Event
  )

  def forward(self, batch: Batch) -> Mapping[str, Any]:
    """Emits the tokens."""
    for ids in self.function.stream(batch):
      if self.is_stopped.is_set():
        break
      self.emit(id := int(ids[0]))
      if id == self.task.tokenizer.special.sep:
        break
    return {}

  def predict(
    self, outputs: Mapping[str, Any], batch: Batch, items: Sequence[Record]
  ) -> list[Any]:
    """Nothing more."""
    return [None] * len(items)

  def finish(self, item: Record, predictions: list[Any]) -> Any:
    """Nothing more."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Output(_Work):
  """One output, as the model computes it."""

  def predict(
    self, outputs: Mapping[str, Any], batch: Batch, items: Sequence[Record]
  ) -> list[np.ndarray]:
    """The rows of the output, those of tokens without padding."""
    ((name, array),) = outputs.items()
    array = np.asarray(array, np.float32)
    if name != TOKEN_EMBEDDINGS:
      return [np.array(row) for row in array[: len(items)]]
    lengths = np.count_nonzero(batch.sequence_ids, axis=-1)
    return [
      np.array(row[:length])
      for row, length in zip(array[: len(items)], lengths)
    ]

  def finish(self, item: Record, predictions: list[Any]) -> np.ndarray:
    """The output of the only row."""
    if len(predictions) > 1:
      raise UserError("the text is too long for one row of the model")
    return predictions[0]


def _records(given: Sequence[Record | str]) -> list[Record]:
  """Texts as records with the field `text`.

  Raises:
    ServingError: an item is neither.
  """
  found: list[Record] = []
  for place, item in enumerate(given):
    if isinstance(item, str):
      item = {"text": item}
    elif not isinstance(item, Mapping):
      raise ServingError(
        "unprocessable", "expected a text or a record", item=place
      )
    found.append(item)
  return found


def _characters(value: Any) -> int:
  if isinstance(value, str):
    return len(value)
  if isinstance(value, list | tuple):
    return sum(map(_characters, value))
  return 0


def _length(examples: Sequence[Batch]) -> int:
  return max(example.token_ids.shape[-1] for example in examples)
