"""One label for a text or a pair of texts."""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float

from bert_jax.batch import Array, Batch
from bert_jax.data.records import Splits
from bert_jax.data.sources.labelled import Record
from bert_jax.tasks.inputs import fields
from bert_jax.tasks.metrics import labels as metrics
from bert_jax.tasks.targets import losses, numeric, view
from bert_jax.tasks.targets.labels import LabelledTarget
from bert_jax.tasks.targets.target import (
  Arrays,
  Means,
  Metrics,
  Records,
  Vocabulary,
)
from bert_jax.tasks.targets.view import Confusion, View

Logits = Float[Array, "batch labels"]
Probabilities = Float[np.ndarray, " labels"]


@dataclasses.dataclass(frozen=True)
class Label:
  """A label of a text.

  Attributes:
    label: its name.
    probability: the model's, from 0 to 1.
  """

  label: str
  probability: float


@dataclasses.dataclass(frozen=True)
class ClassLabel(LabelledTarget):
  """One label; its gold field is `label`, a name or a number.

  The arrays of a batch:

    labels: int32 [batch], the id of each row's label.
    weights: float32 [batch], 0 for padding rows and all but the first chunk.

  Predictions are probabilities, float32 [labels]. Besides these, the
  attributes of `LabelledTarget`.

  Attributes:
    class_weights: the weight of a label's rows in training, by its name, 1 if
      not given.
    balanced: whether `fit` chooses the class weights so that all labels have
      the same total weight.
    label_smoothing: the share of the target distribution that is uniform over
      the labels (Szegedy et al. 2016, arXiv:1512.00567).
  """

  class_weights: Mapping[str, float] = dataclasses.field(default_factory=dict)
  balanced: bool = False
  label_smoothing: float = 0.0

  FIELDS: ClassVar = ("label",)
  ARRAYS: ClassVar = {"labels": (np.int32, "")}
  ARCHITECTURE: ClassVar = "ForSequenceClassification"
  PROBLEM_TYPE: ClassVar = "single_label_classification"
  EXITS: ClassVar = ("patience", "entropy")

  def __post_init__(self):
    super().__post_init__()
    if not 0 <= self.label_smoothing < 1:
      raise ValueError(
        "label_smoothing: expected at least 0 and less than 1, got"
        f" {self.label_smoothing}"
      )
    for name, weight in self.class_weights.items():
      # NaN is not at least 0 either.
      if not isinstance(weight, int | float) or not weight >= 0:
        raise ValueError(
          f"class_weights.{name}: expected a number, at least 0, got {weight!r}"
        )
    if self.balanced and self.class_weights and not self.labels:
      raise ValueError("balanced: give either balanced or class_weights")

  def found(self, record: Record) -> Iterable[str]:
    return [fields.label(record.get("label"))]

  def arrays(self, record: Record, training: bool) -> Arrays:
    """The label's id and, in training, its class weight."""
    (label,) = self.learned_ids(record, training)
    weight = float(label >= 0)
    if training:
      weight = self.class_weights.get(self.names[label], 1)
    return {"labels": np.int32(max(label, 0)), "weights": np.float32(weight)}

  def fit(self, records: Splits, pretrained: Self | None) -> Self:
    fitted = super().fit(records, pretrained)
    names = fitted.names
    for name in fitted.class_weights:
      fields.index("class_weights", name, names)
    if not self.balanced:
      return fitted
    counts = collections.Counter(
      name for found in records.each(self.found) for name in found
    )
    total = sum(counts[name] for name in names)
    weights = {
      name: total / len(names) / max(counts[name], 1) for name in names
    }
    return dataclasses.replace(fitted, class_weights=weights)

  def loss(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    """Cross-entropy in nats, as in `BertForSequenceClassification`."""
    values = losses.cross_entropy(outputs, arrays["labels"])
    if self.label_smoothing:
      values = losses.smoothed(outputs, values, self.label_smoothing)
    return {"loss": losses.mean(values, arrays["weights"])}

  def metrics(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    return losses.accuracy(outputs, arrays["labels"], arrays["weights"])

  def predict(
    self, outputs: Logits, batch: Batch, records: Records, tokenizer: Vocabulary
  ) -> list[Probabilities]:
    return list(numeric.softmax(outputs)[: len(records)])

  def same_answers(
    self, outputs: Logits, others: Logits, batch: Batch, tolerance: float
  ) -> Array:
    del batch, tolerance
    return outputs.argmax(-1) == others.argmax(-1)

  def entropies(self, outputs: Logits, batch: Batch) -> Array:
    del batch
    return numeric.entropy(outputs)

  def decode(
    self,
    record: Record,
    prediction: Probabilities,
    tokenizer: Vocabulary,
    top_k: int | None = None,
  ) -> list[Label]:
    """The labels, the most probable first; the first `top_k` of them."""
    return [
      Label(self.names[id], float(prediction[id]))
      for id in ranked(prediction, top_k)
    ]

  def correct(
    self, records: Records, predictions: Sequence[Probabilities]
  ) -> np.ndarray:
    gold, predicted, _ = self._ids(records, predictions)
    return gold == predicted

  def evaluate(
    self, records: Records, predictions: Sequence[Probabilities]
  ) -> Metrics:
    """See `metrics.labels.evaluate`."""
    gold, predicted, names = self._ids(records, predictions)
    return metrics.evaluate(gold, predicted, len(names))

  def baselines(self, records: Records) -> Metrics:
    names = self.gold_names(records)
    gold = [self.ids(record, names) for record in records]
    return {"accuracy_majority_baseline": metrics.majority_share(gold)}

  def _ids(
    self, records: Records, predictions: Sequence[Probabilities]
  ) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Gold and predicted ids, and the names of all ids."""
    names = self.gold_names(records)
    gold = np.array([id for x in records for id in self.ids(x, names)], int)
    return gold, np.array([p.argmax() for p in predictions], int), names

  def view(
    self, records: Records, predictions: Sequence[Probabilities]
  ) -> View:
    """Precision and recall by label, and the most confident mistakes."""
    gold, predicted, names = self._ids(records, predictions)
    mistakes = []
    for i in np.flatnonzero(gold != predicted):
      probability = float(predictions[i][predicted[i]])
      row: dict[str, Any] = {
        **view.texts(records[i]),
        "gold": names[gold[i]],
        "predicted": names[predicted[i]],
        "probability": probability,
        "probability of gold": float(
          predictions[i][gold[i]] if gold[i] < len(self.names) else 0
        ),
      }
      mistakes.append((probability, row))
    return View(
      {"labels": metrics.per_label(gold, predicted, names)},
      Confusion(names, metrics.confusion_matrix(gold, predicted, len(names))),
      view.worst(mistakes),
    )


def ranked(probabilities: Probabilities, top_k: int | None) -> list[int]:
  """The ids of labels, the most probable first.

  Raises:
    UserError: `top_k` is no whole number above 0.
  """
  if top_k is not None:
    fields.at_least_one("top_k", top_k)
  return np.argsort(-probabilities, kind="stable")[:top_k].tolist()
