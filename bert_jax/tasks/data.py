"""What training takes from data, whatever the task."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from bert_jax.data.sources.labelled import Record
from bert_jax.data.stream import BatchStream, Examples
from bert_jax.types import Batch


@dataclasses.dataclass(frozen=True, eq=False)
class EvalRecords:
  """Labelled records to evaluate a model on.

  Attributes:
    records: with their gold fields.
    examples: what `Task.preprocess` made of each of them.
    length_buckets: the row lengths that batches may have, rising.
  """

  records: Sequence[Record]
  examples: Sequence[list[Batch]]
  length_buckets: Sequence[int]


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingData:
  """What a task learns from.

  Attributes:
    max_length: positions of a training row, or their mean. The FLOPs of
      attention are counted as if a row were one sequence; where several share
      it, that is what dense attention computes, and more than they need.
    predictions: positions of a row that go through the vocabulary
      projection, 0 without one (for counting FLOPs).
    training: opens the training batches, of a batch size, a seed and the
      position to continue from, or None.
    evaluation: opens the evaluation data: examples of a corpus, or records.
    fingerprint: identifies the training data; a resumed run must find the
      same.
    baselines: the metrics of the best constant answer on the evaluation
      batches, or records.
    notes: lines about the data for the user.
  """

  max_length: float
  predictions: int
  training: Callable[[int, int, Mapping[str, Any] | None], BatchStream]
  evaluation: Callable[[], Examples | EvalRecords]
  fingerprint: Callable[[], str]
  baselines: Callable[[Iterable[Any]], dict[str, float]]
  notes: tuple[str, ...] = ()
