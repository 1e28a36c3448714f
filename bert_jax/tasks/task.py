"""What a task is: the part of training that knows what is learned."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from bert_jax.data.stream import Examples
from bert_jax.models.config import EncoderConfig
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean, Parameters, Record


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
class TrainingData:
  """What a task learns from.

  Attributes:
    length: tokens in a training row.
    predictions: positions of a row that go through the vocabulary
      projection, 0 without one (for counting FLOPs).
    training: opens the training examples.
    evaluation: opens the held-out examples.
    fingerprint: what tells the training data from others; a resumed run must
      find the same.
    baselines: the metrics of the best constant answer on the given batches.
  """

  length: int
  predictions: int
  training: Callable[[], Examples]
  evaluation: Callable[[], Examples]
  fingerprint: Callable[[], str]
  baselines: Callable[[Iterable[Batch]], dict[str, float]]


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
      several where a long text is cut into windows.
    answer: outputs, their batch and the record of each of its rows to answers
      for people, one a row; rows beyond the records only pad.
    join: the answers of one record's examples to one answer.
    head: what else makes the head, such as its labels; the module's `Head`.
    data: what it learns from; None where it only predicts.
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
  head: Any = None
  data: TrainingData | None = None
