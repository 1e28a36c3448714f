"""What training takes from data, whatever the task."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

from bert_jax.batch import Batch
from bert_jax.data import stream
from bert_jax.data.sources.labelled import Record
from bert_jax.data.stream import BatchStream, Examples


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

  def sample(self, limit: int | None) -> Self:
    """About `limit` of the records, drawn as `stream.draw` does; None for all.

    Several tasks have their shares of it, but at least one record each.
    """
    count = len(self.records)
    if limit is None or limit >= count:
      return self
    places: dict[str, list[int]] = {}
    for index, made in enumerate(self.examples):
      places.setdefault(made[0].task, []).append(index)
    chosen = sorted(
      own[i]
      for own in places.values()
      for i in stream.draw(len(own), max(round(limit * len(own) / count), 1))
    )
    return dataclasses.replace(
      self,
      records=[self.records[i] for i in chosen],
      examples=[self.examples[i] for i in chosen],
    )


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingData:
  """What a task learns from.

  Attributes:
    max_length: positions of a training row, or their mean. The FLOPs of
      attention are counted as if a row were one sequence; where several share
      it, that is what dense attention computes, and more than they need.
    predictions: positions of a row that go through the vocabulary
      projection, or their mean; 0 without one (for counting FLOPs).
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
  predictions: float
  training: Callable[[int, int, Mapping[str, Any] | None], BatchStream]
  evaluation: Callable[[], Examples | EvalRecords]
  fingerprint: Callable[[], str]
  baselines: Callable[[Iterable[Any]], dict[str, float]]
  notes: tuple[str, ...] = ()
