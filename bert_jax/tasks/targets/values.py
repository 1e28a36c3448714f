"""Numbers for a text or a pair of texts."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from jaxtyping import Float

from bert_jax import settings
from bert_jax.batch import Array, Batch, Mean
from bert_jax.data.records import Splits
from bert_jax.data.sources.labelled import Record
from bert_jax.models.activation_names import NAMES
from bert_jax.settings import UserError
from bert_jax.tasks.metrics import regression as metrics
from bert_jax.tasks.targets import labels, losses, numeric, view
from bert_jax.tasks.targets.labels import LabelledTarget
from bert_jax.tasks.targets.target import (
  Arrays,
  Means,
  Metrics,
  Records,
  Target,
  Vocabulary,
)
from bert_jax.tasks.targets.view import View

# Training is done in float32.
_LARGEST = float(np.finfo(np.float32).max)
_DEFAULT = ("value",)
_IDENTITY, _SIGMOID = "identity", "sigmoid"
Logits = Float[Array, "batch labels"]
Numbers = Float[np.ndarray, " labels"]


@dataclasses.dataclass(frozen=True)
class Value:
  """A number for a text.

  Attributes:
    label: its name.
    value: the prediction, in the unit of the training records.
  """

  label: str
  value: float


@dataclasses.dataclass(frozen=True)
class Values(LabelledTarget):
  """Numbers; the gold field is `values`, or `label` where there is only one.

  The arrays of a batch:

    values: float32 [batch, labels], standardized by means and scales.
    weights: float32 [batch], 0 for padding rows.

  Predictions are numbers in the unit of the records, float64 [labels].

  Attributes:
    labels: the names of the values; by default `value`, or `value_0` and so
      on.
    means: added to the outputs, once these are multiplied by the scales; one
      for each value, none is 0 for all. `fit` takes those of the training
      records.
    scales: see `means`; none is 1 for all.
    activation: applied to the outputs, a name in
      `models.activation_names.NAMES`. To train, `identity`, or `sigmoid` for
      values from 0 to 1, which has the binary cross-entropy as loss.
  """

  means: tuple[float, ...] = ()
  scales: tuple[float, ...] = ()
  activation: str = _IDENTITY

  FIELDS: ClassVar = ("label", "values")
  OPTIONAL: ClassVar = ("label", "values")
  LISTS: ClassVar = ("values",)
  ARRAYS: ClassVar = {"values": (np.float32, "label")}
  ARCHITECTURE: ClassVar = "ForSequenceClassification"
  PROBLEM_TYPE: ClassVar = "regression"
  EXITS: ClassVar = ("patience",)

  def __post_init__(self):
    super().__post_init__()
    count = len(self.names)
    for name, default in (("means", 0.0), ("scales", 1.0)):
      filled = labels.one_each(name, getattr(self, name), count, default)
      object.__setattr__(self, name, filled)
    if min(self.scales) <= 0:
      raise ValueError(f"scales: expected above 0, got {list(self.scales)}")
    settings.choice("activation", self.activation, dict.fromkeys(NAMES))
    if self.activation != _IDENTITY and (
      any(self.means) or {*self.scales} != {1.0}
    ):
      raise ValueError(
        f"activation: with means and scales only {_IDENTITY}, got"
        f" {self.activation}"
      )

  @property
  def names(self) -> tuple[str, ...]:
    return self.labels or _DEFAULT

  def found(self, record: Record) -> Iterable[str]:
    """Values have no names in the records."""
    del record
    return ()

  def gold(self, record: Record) -> list[float]:
    """The record's values.

    Raises:
      UserError: their number differs from that of the labels, or one is no
        number.
    """
    values = _values(record)
    if len(values) != len(self.names):
      raise UserError(
        f"expected {len(self.names)} values ({', '.join(self.names):.60}), got"
        f" {len(values)}"
      )
    return values

  def arrays(self, record: Record, training: bool) -> Arrays:
    gold = np.array(self.gold(record))
    if training:
      self._check_trained(gold)
    scaled = (gold - np.array(self.means)) / np.array(self.scales)
    return {"values": scaled.astype(np.float32)}

  def fit(self, records: Splits, pretrained: Self | None) -> Self:
    """Names, means and scales; a pretrained model's stay if they fit."""
    first, *_ = records.each(_values)
    names = self.labels
    if not names and pretrained and len(pretrained.names) == len(first):
      names = pretrained.names
    if not names:
      names = tuple(f"value_{n}" for n in range(len(first)))
      names = names if len(names) > 1 else _DEFAULT
    own = type(self)(names, activation=self.activation)
    gold = np.array(records.each(own.gold))
    if pretrained and pretrained.names == names:
      chosen = self.activation in (_IDENTITY, pretrained.activation)
      if chosen and pretrained._reaches(gold):
        return pretrained
    if self.activation != _IDENTITY:
      return own
    constant = np.ptp(gold, axis=0) == 0
    return type(self)(
      names,
      means=tuple(gold.mean(0).tolist()),
      scales=tuple(np.where(constant, 1.0, gold.std(0)).tolist()),
    )

  def _reaches(self, gold: np.ndarray) -> bool:
    """Whether training can make these values from the outputs."""
    if self.activation == _SIGMOID:
      return bool(gold.min() >= 0 and gold.max() <= 1)
    return self.activation == _IDENTITY

  def _check_trained(self, gold: np.ndarray) -> None:
    if self.activation not in (_IDENTITY, _SIGMOID):
      raise UserError(
        f"activation: to train, expected {_IDENTITY} or {_SIGMOID}, got"
        f" {self.activation}"
      )
    if not self._reaches(gold):
      raise UserError(
        f"activation: {_SIGMOID} gives values from 0 to 1, got {gold.tolist()}"
      )

  def loss(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    """The squared error of standardized values, the mean over the values.

    As `BertForSequenceClassification` has it for this problem type. With the
    activation `sigmoid` the binary cross-entropy, as CrossEncoder has it.
    """
    if self.activation == _SIGMOID:
      errors = losses.binary_cross_entropy(outputs, arrays["values"]).mean(-1)
    else:
      found = losses.activate(self.activation, outputs)
      errors = ((found - arrays["values"]) ** 2).mean(-1)
    return {"loss": losses.mean(errors, arrays["weights"])}

  def soft_loss(
    self,
    outputs: Logits,
    taught: Logits,
    arrays: Arrays,
    batch: Batch,
    temperature: float,
  ) -> Mean:
    """The squared difference; with the activation `sigmoid` the divergence."""
    if self.activation == _SIGMOID:
      errors = losses.binary_divergence(outputs, taught, temperature)
    else:
      errors = (outputs - taught) ** 2
    return losses.mean(errors.mean(-1), arrays["weights"])

  def teaches(self, student: Target) -> bool:
    """Whether the values also have the same unit."""
    return self.same_outputs(student) and all(
      getattr(self, name) == getattr(student, name)
      for name in ("means", "scales", "activation")
    )

  def metrics(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    """The absolute error in the unit of the records, over the values."""
    found = losses.activate(self.activation, outputs)
    errors = abs(found - arrays["values"])
    scaled = (errors * np.array(self.scales, np.float32)).mean(-1)
    return {"mae": losses.mean(scaled, arrays["weights"])}

  def predict(
    self,
    outputs: Logits,
    batch: Batch,
    records: Records,
    tokenizer: Vocabulary,
    activation: str | None = None,
  ) -> list[Numbers]:
    """The values; another `activation` such as `identity` gives raw logits."""
    name = self.activation if activation is None else activation
    activate = settings.choice("activation", str(name), numeric.ACTIVATIONS)
    found = activate(np.asarray(outputs))
    values = found * np.array(self.scales) + np.array(self.means)
    return list(values[: len(records)])

  def same_answers(
    self, outputs: Logits, others: Logits, batch: Batch, tolerance: float
  ) -> Array:
    """Whether all values differ by less than the tolerance."""
    del batch
    one, other = (
      losses.activate(self.activation, x) for x in (outputs, others)
    )
    return (abs(one - other) < tolerance).all(-1)

  def decode(
    self, record: Record, prediction: Numbers, tokenizer: Vocabulary
  ) -> list[Value]:
    return list(map(Value, self.names, prediction.tolist()))

  def evaluate(
    self, records: Records, predictions: Sequence[Numbers]
  ) -> Metrics:
    """Correlations and errors; see `metrics.regression.evaluate`."""
    gold = [self.gold(record) for record in records]
    return metrics.evaluate(gold, np.array(predictions), self.names)

  def baselines(self, records: Records) -> Metrics:
    """The errors of always giving the mean of the training records."""
    gold = [self.gold(record) for record in records]
    found = metrics.evaluate(gold, [self.means] * len(gold), self.names)
    return {f"{name}_mean_baseline": found[name] for name in ("rmse", "mae")}

  def view(self, records: Records, predictions: Sequence[Numbers]) -> View:
    """Correlation and errors by value, and the records with most error."""
    gold = np.array([self.gold(record) for record in records])
    found = np.array(predictions)
    errors = np.abs(found - gold) / np.array(self.scales)
    mistakes = []
    for record, right, got, off in zip(records, gold, found, errors):
      row: dict[str, Any] = view.texts(record)
      for i, label in enumerate(self.names):
        row |= {f"{label}, gold": right[i], f"{label}, predicted": got[i]}
      mistakes.append((off.max(), row))
    table = {
      label: metrics.evaluate(gold[:, [i]], found[:, [i]], [label])
      for i, label in enumerate(self.names)
    }
    return View({"values": table}, mistakes=view.worst(mistakes))

  def average(
    self, batch: Batch, members: Float[Array, "members batch labels"]
  ) -> Logits:
    del batch
    if self.activation == _SIGMOID:
      return losses.log_mean_odds(members)
    return members.mean(0)

  @classmethod
  def from_huggingface(cls, config: Mapping[str, Any], where: str) -> Self:
    """With the activation that the config names; one label alone has sigmoid.

    As in the pipeline of Transformers, none where the problem type is a
    regression.
    """
    made = super().from_huggingface(config, where)
    activation = labels.torch_activation(config, where)
    if activation is None and config.get("problem_type") != cls.PROBLEM_TYPE:
      activation = _SIGMOID if len(made.names) == 1 else None
    if activation == "softmax":
      activation = None
    return dataclasses.replace(made, activation=activation or _IDENTITY)

  def to_huggingface(self) -> dict[str, Any]:
    """Besides labels, the activation, for Transformers and CrossEncoder."""
    keys = super().to_huggingface()
    if self.activation == _SIGMOID and len(self.names) == 1:
      del keys["problem_type"]
    return keys | labels.activation_keys(self.activation)

  def huggingface_params(self, head: Any) -> Any:
    """Folds means and scales, which config.json has no keys for."""
    scales = np.array(self.scales, np.float32)
    return {
      "kernel": np.asarray(head["kernel"]) * scales,
      "bias": np.asarray(head["bias"]) * scales
      + np.array(self.means, np.float32),
    }


def _values(record: Record) -> list[float]:
  """A record's values, at least one.

  Raises:
    UserError: there are none, or one is no number.
  """
  name = "values" if record.get("values") is not None else "label"
  if record.get(name) is None:
    raise UserError("expected the field 'values', or 'label' with one number")
  given = record[name]
  if name == "label":
    return [number(name, given)]
  if not isinstance(given, list | tuple) or not given:
    raise UserError(
      f"the field 'values': expected a list of numbers, got {given!r:.60}"
    )
  return [number(name, value) for value in given]


def number(name: str, value: Any) -> float:
  """A gold value: a finite float32 number, or its text.

  Raises:
    UserError: it is something else.
  """
  try:
    found = math.nan if isinstance(value, bool) else float(value)
  except (TypeError, ValueError, OverflowError):
    found = math.nan
  # NaN is not either.
  if not abs(found) <= _LARGEST:
    raise UserError(f"the field {name!r}: expected a number, got {value!r:.60}")
  return found
