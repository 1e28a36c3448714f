"""What a task is: the part of training that knows what is learned."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.data.stream import BatchStream, Examples
from bert_jax.models.config import EncoderConfig
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean, Parameters


class Model(Protocol):
  """What the loop needs of a Linen module."""

  def init(self, key: Any, batch: Batch) -> Mapping[str, Parameters]:
    """`{"params": ...}` with initial values."""

  def clone(self, *, config: EncoderConfig) -> "Model":
    """The same model on another encoder."""

  def apply(
    self, variables: Mapping[str, Parameters], batch: Batch, **kwargs: Any
  ) -> Any:
    """The task's outputs."""


@dataclasses.dataclass(frozen=True)
class HeldOut:
  """Labelled records to measure a model by its answers.

  Attributes:
    records: with their gold fields.
    examples: what `Task.prepare` made of each of them.
    lengths: those that batches may have, rising.
  """

  records: Sequence[Record]
  examples: Sequence[list[Batch]]
  lengths: Sequence[int]


@dataclasses.dataclass(frozen=True)
class TrainingData:
  """What a task learns from.

  Attributes:
    length: positions of a training row, or their mean. The FLOPs of
      attention are counted as if a row were one sequence; where several share
      it, that is what dense attention does, and more than they need.
    predictions: positions of a row that go through the vocabulary
      projection, 0 without one (for counting FLOPs).
    training: opens the training batches, of a batch size, a seed and the
      position to go on from, or None.
    evaluation: opens what the model is measured on: examples, or, for tasks
      with a `score`, records.
    fingerprint: what tells the training data from others; a resumed run must
      find the same.
    baselines: the metrics of the best constant answer on the held-out
      batches, or records.
    notes: what to tell the user about the data, a line each.
  """

  length: float
  predictions: int
  training: Callable[[int, int, Mapping[str, Any] | None], BatchStream]
  evaluation: Callable[[], Examples | HeldOut]
  fingerprint: Callable[[], str]
  baselines: Callable[[Iterable[Any]], dict[str, float]]
  notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Task:
  """A frozen record of the functions that make a task.

  Attributes:
    name: its key in `bert_jax.tasks.TASKS`.
    config: the encoder's configuration.
    tokenizer: text to ids; None when the data come as ids and no vocabulary
      was given.
    model: encoder and head.
    blank: an example of zeros, for its shapes; with data, a training row.
    loss: undivided means to be minimised, by name; their values are added.
      A mean's weight must depend on the batch alone.
    metrics: further undivided means, by name.
    prepare: one record of text to unpadded, unbatched examples: one, or
      several where a long text is cut into windows. Where the record has gold
      fields, with the targets of the loss.
    answer: outputs, their batch and the record of each of its rows to answers
      for people, one a row; rows beyond the records only pad.
    join: the answers of one record's examples to one answer.
    axes: how the targets of examples are padded.
    score: from a head, answers and their records with gold fields to
      measures that are more than means over batches; None without any.
    scoring: the options of `answer` that `score` asks for.
    tune: what is fitted to held-out answers and records, such as thresholds:
      the head with it.
    baselines: from records with gold fields to what the best constant answer
      scores, by the measures' names and what it is.
    head: what else makes the head, such as its labels; the module's `Head`.
    data: what it learns from; None where it only predicts.
    parts: the tasks that share its encoder, where it is made of several.
  """

  name: str
  config: EncoderConfig
  tokenizer: Tokenizer | None
  model: Model
  blank: Batch
  loss: Callable[[Any, Batch], dict[str, Mean]]
  metrics: Callable[[Any, Batch], dict[str, Mean]]
  prepare: Callable[[Record], list[Batch]]
  answer: Callable[..., Sequence[Any]]
  join: Callable[[Sequence[Any]], Any] = lambda answers: answers[0]
  axes: grouping.Axes = grouping.PLAIN
  score: (
    Callable[[Any, Sequence[Any], Sequence[Record]], dict[str, float]] | None
  ) = None
  scoring: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  tune: Callable[[Sequence[Any], Sequence[Record]], Any] | None = None
  baselines: Callable[[Sequence[Record]], dict[str, float]] | None = None
  head: Any = None
  data: TrainingData | None = None
  parts: Mapping[str, "Task"] = dataclasses.field(default_factory=dict)
