"""Any number of labels for a text or a pair of texts."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float

from bert_jax.batch import Array, Batch, Mean
from bert_jax.data.records import Splits
from bert_jax.data.sources.labelled import Record
from bert_jax.settings import UserError
from bert_jax.tasks.inputs import fields
from bert_jax.tasks.metrics import multi_label as metrics
from bert_jax.tasks.metrics.counts import rates
from bert_jax.tasks.targets import labels, losses, numeric, view
from bert_jax.tasks.targets.class_label import Logits, Probabilities, ranked
from bert_jax.tasks.targets.labels import LabelledTarget
from bert_jax.tasks.targets.target import (
  Arrays,
  Means,
  Metrics,
  Records,
  Vocabulary,
)
from bert_jax.tasks.targets.view import View

_DEFAULT_THRESHOLD = 0.5
# The values of multi-hot lists.
_HOT = {"0", "1"}
_Matrix = Float[np.ndarray, "rows names"]


@dataclasses.dataclass(frozen=True)
class ChosenLabel:
  """A label that a text may have.

  Attributes:
    label: its name.
    probability: the model's, from 0 to 1, that the text has it.
    chosen: whether the probability reaches the label's threshold.
  """

  label: str
  probability: float
  chosen: bool


@dataclasses.dataclass(frozen=True)
class MultiLabel(LabelledTarget):
  """Several labels; the gold field is `labels`.

  That is a list of names, or of 0 or 1 for each label (multi-hot), such as
  `[0, 1, 0]`. Where nothing else names the labels of multi-hot lists, they are
  `LABEL_0` and so on.

  The arrays of a batch:

    labels: float32 [batch, labels], 1 for each label that a row has.
    weights: float32 [batch], 0 for padding rows.

  Predictions are probabilities, float32 [labels]. Besides `thresholds`, the
  attributes of `LabelledTarget`.

  Attributes:
    thresholds: a text has a label whose probability is at least this, one for
      each label; none is 0.5 for all. `tune` fits them to the best F1.
  """

  thresholds: tuple[float, ...] = ()

  FIELDS: ClassVar = ("labels",)
  LISTS: ClassVar = ("labels",)
  ARRAYS: ClassVar = {"labels": (np.float32, "label")}
  TUNED: ClassVar = ("thresholds",)
  ARCHITECTURE: ClassVar = "ForSequenceClassification"
  PROBLEM_TYPE: ClassVar = "multi_label_classification"
  EXITS: ClassVar = ("patience", "entropy")

  def __post_init__(self):
    super().__post_init__()
    if self.thresholds:
      labels.one_each("thresholds", self.thresholds, len(self.names), 0)

  @property
  def _cuts(self) -> tuple[float, ...]:
    return self.thresholds or (_DEFAULT_THRESHOLD,) * len(self.names)

  def fit(self, records: Splits, pretrained: Self | None) -> Self:
    """Labels as in the base class, or the positions of multi-hot lists."""
    if not self.labels:
      count = _positions(records.each_known(_given))
      known = pretrained.labels if pretrained else ()
      if count and len(known) != count:
        known = tuple(f"LABEL_{id}" for id in range(count))
      if count:
        return dataclasses.replace(self, labels=known).fit(records, pretrained)
    return super().fit(records, pretrained)

  def found(self, record: Record) -> Iterable[str]:
    found, names = _given(record), self.labels
    if not found or not {*found} <= _HOT:
      return found
    # A name is not given twice.
    repeats = len(found) > len({*found})
    if len(found) == len(names) and (repeats or not {*found} <= {*names}):
      return [name for name, value in zip(names, found) if value == "1"]
    if repeats:
      wanted = (
        f"or 0 or 1 for each of {len(names)} labels"
        if names
        else ("as other records have")
      )
      raise UserError(
        f"the field 'labels': expected names, {wanted}; got"
        f" {', '.join(found):.60}"
      )
    return found

  def arrays(self, record: Record, training: bool) -> Arrays:
    row = np.zeros(len(self.names), np.float32)
    row[[id for id in self.learned_ids(record, training) if id >= 0]] = 1
    return {"labels": row}

  def loss(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    """Binary cross-entropy in nats, the mean over the labels.

    As `BertForSequenceClassification` has it for this problem type.
    """
    values = losses.binary_cross_entropy(outputs, arrays["labels"])
    return {"loss": losses.mean(values.mean(-1), arrays["weights"])}

  def soft_loss(
    self,
    outputs: Logits,
    taught: Logits,
    arrays: Arrays,
    batch: Batch,
    temperature: float,
  ) -> Mean:
    values = losses.binary_divergence(outputs, taught, temperature)
    return losses.mean(values.mean(-1), arrays["weights"])

  def metrics(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    """The share of decisions that are right with the threshold 0.5."""
    right = (outputs > 0) == (arrays["labels"] > 0)
    weights = arrays["weights"]
    return {"label_accuracy": losses.mean(right.mean(-1), weights)}

  def predict(
    self, outputs: Logits, batch: Batch, records: Records, tokenizer: Vocabulary
  ) -> list[Probabilities]:
    return list(numeric.sigmoid(outputs)[: len(records)])

  def same_answers(
    self, outputs: Logits, others: Logits, batch: Batch, tolerance: float
  ) -> Array:
    """Whether the same labels reach their thresholds."""
    del batch, tolerance
    cuts = np.array(self._cuts, np.float32)
    with np.errstate(divide="ignore"):
      cuts = np.log(cuts) - np.log1p(-cuts)
    return ((outputs >= cuts) == (others >= cuts)).all(-1)

  def entropies(self, outputs: Logits, batch: Batch) -> Array:
    del batch
    xp = outputs.__array_namespace__()
    return numeric.entropy(xp.stack([outputs, 0 * outputs], -1)).max(-1)

  def decode(
    self,
    record: Record,
    prediction: Probabilities,
    tokenizer: Vocabulary,
    top_k: int | None = None,
  ) -> list[ChosenLabel]:
    """The labels, the most probable first; the first `top_k` of them."""
    made = []
    for id in ranked(prediction, top_k):
      probability = float(prediction[id])
      chosen = probability >= self._cuts[id]
      made.append(ChosenLabel(self.names[id], probability, chosen))
    return made

  def correct(
    self, records: Records, predictions: Sequence[Probabilities]
  ) -> np.ndarray:
    gold, probabilities, cuts = self._arrays(records, predictions)
    return ((probabilities >= cuts) == (gold > 0)).all(-1)

  def evaluate(
    self, records: Records, predictions: Sequence[Probabilities]
  ) -> Metrics:
    """See `metrics.multi_label.evaluate`, with the target's thresholds.

    Where these were tuned on the same records they flatter; `micro_f1_untuned`
    and `macro_f1_untuned` are the metrics with 0.5 for all labels.
    """
    gold, probabilities, cuts = self._arrays(records, predictions)
    default = np.full(len(cuts), _DEFAULT_THRESHOLD)
    untuned = metrics.evaluate(gold, probabilities, default)
    found = metrics.evaluate(gold, probabilities, cuts)
    return {
      "micro_f1": found["micro_f1"],
      **found,
      **{f"{name}_untuned": untuned[name] for name in ("micro_f1", "macro_f1")},
    }

  def tune(
    self, records: Records, predictions: Sequence[Probabilities]
  ) -> Self:
    gold, probabilities, _ = self._arrays(records, predictions)
    found = metrics.tune_thresholds(gold, probabilities)[: len(self.names)]
    return dataclasses.replace(self, thresholds=tuple(found.tolist()))

  def _arrays(
    self, records: Records, predictions: Sequence[Probabilities]
  ) -> tuple[_Matrix, _Matrix, Float[np.ndarray, " names"]]:
    """Gold labels, probabilities and thresholds, for all `gold_names`."""
    names, known = self.gold_names(records), len(self.names)
    gold = np.zeros((len(records), len(names)))
    for row, record in zip(gold, records):
      row[self.ids(record, names)] = 1
    probabilities, cuts = (
      np.zeros_like(gold),
      np.full(len(names), _DEFAULT_THRESHOLD),
    )
    probabilities[:, :known] = np.reshape(predictions, (len(records), known))
    cuts[:known] = self._cuts
    return gold, probabilities, cuts

  def baselines(self, records: Records) -> Metrics:
    """Of the best answer that is the same for all records.

    For `micro_f1` it is the set of the most frequent labels with the best F1;
    for `subset_accuracy` the most frequent set of labels.
    """
    sets = [frozenset(self.found(record)) for record in records]
    counts: Mapping[Any, int] = collections.Counter(n for s in sets for n in s)
    right = np.cumsum(sorted(counts.values(), reverse=True))
    given = len(sets) * np.arange(1, len(right) + 1)
    f1 = 2 * right / (given + sum(counts.values()))
    most = max(collections.Counter(sets).values())
    return {
      "micro_f1_majority_baseline": float(f1.max(initial=0)),
      "subset_accuracy_majority_baseline": most / len(sets),
    }

  def view(
    self, records: Records, predictions: Sequence[Probabilities]
  ) -> View:
    """Precision and recall by label, and the records with most error."""
    gold, chances, cuts = self._arrays(records, predictions)
    chosen = (chances >= cuts).astype(float)
    mistakes = []
    for row in np.flatnonzero((gold != chosen).any(-1)):
      wrong = gold[row] != chosen[row]
      # By how much the probabilities of wrong decisions are off, summed up.
      off = float(np.abs(gold[row] - chances[row])[wrong].sum())
      found = self.decode(records[row], predictions[row], None)
      seen = {
        **view.texts(records[row]),
        "gold": ", ".join(self.found(records[row])),
        "predicted": ", ".join(
          f"{x.label} {x.probability:.2f}" for x in found if x.chosen
        ),
        "error": off,
      }
      mistakes.append((off, seen))
    columns = rates((gold * chosen).sum(0), chosen.sum(0), gold.sum(0))
    columns |= {"support": gold.sum(0), "threshold": cuts}
    table = {
      label: {name: float(column[id]) for name, column in columns.items()}
      for id, label in enumerate(self.gold_names(records))
    }
    return View({"labels": table}, mistakes=view.worst(mistakes))

  def average(
    self, batch: Batch, members: Float[Array, "members batch labels"]
  ) -> Logits:
    del batch
    return losses.log_mean_odds(members)

  def to_huggingface(self) -> dict[str, Any]:
    """As in the base class, with the activation and all thresholds."""
    keys = super().to_huggingface() | labels.activation_keys("sigmoid")
    return keys | {"thresholds": list(self._cuts)}


def _given(record: Record) -> list[str]:
  """The list of a record, whose items are names, or 0 or 1.

  Raises:
    UserError: it is missing, or is none.
  """
  given = record.get("labels")
  if not isinstance(given, list | tuple):
    raise UserError(
      f"the field 'labels': expected a list of labels, got {given!r:.60}"
    )
  return [fields.label(name) for name in given]


def _positions(lists: Sequence[Sequence[str]]) -> int:
  """The number of labels if lists are multi-hot, else 0.

  They are if they only have 0 and 1 and either the same length or, as names
  never have, repetitions.
  """
  lists = [found for found in lists if found]
  if not lists or not {*itertools.chain.from_iterable(lists)} <= _HOT:
    return 0
  sizes = collections.Counter(map(len, lists))
  size = max(sizes, key=sizes.__getitem__)
  repeats = any(len(found) > len({*found}) for found in lists)
  return size if size > 1 and (repeats or len(sizes) == 1) else 0
