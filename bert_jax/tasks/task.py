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

  def apply(
    self, variables: Mapping[str, Parameters], batch: Batch, **kwargs: Any
  ) -> Any:
    """The task's outputs."""


@dataclasses.dataclass(frozen=True)
class Task:
  """A frozen record of the functions that make a task.

  Attributes:
    config: the encoder's configuration.
    tokenizer: text to ids; None when the data come as ids and no vocabulary
      was given.
    model: encoder and head.
    length: tokens in a training row.
    blank: a training example of zeros, for its shapes.
    predictions: positions of a row that go through the vocabulary
      projection, 0 without one (for counting FLOPs).
    training: opens the training examples.
    evaluation: opens the held-out examples.
    fingerprint: what tells the training data from others; a resumed run must
      find the same.
    loss: undivided means to be minimised, by name; their values are added.
      A mean's weight must depend on the batch alone.
    metrics: further undivided means, by name.
    baselines: the metrics of the best constant answer on the given batches.
    prepare: one record of text to one unpadded, unbatched example.
    answer: outputs for a batch, and its records, to answers for people.
  """

  config: EncoderConfig
  tokenizer: Tokenizer | None
  model: Model
  length: int
  blank: Batch
  predictions: int
  training: Callable[[], Examples]
  evaluation: Callable[[], Examples]
  fingerprint: Callable[[], str]
  loss: Callable[[Any, Batch], dict[str, Mean]]
  metrics: Callable[[Any, Batch], dict[str, Mean]]
  baselines: Callable[[Iterable[Batch]], dict[str, float]]
  prepare: Callable[[Record], Batch]
  answer: Callable[..., Sequence[Any]]
