"""Which of several texts goes with a text, as in SWAG and RACE."""

import dataclasses
import string
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from bert_jax.batch import Array, Batch, Mean
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks.inputs import fields
from bert_jax.tasks.inputs.rows import PREFIX
from bert_jax.tasks.metrics import labels as metrics
from bert_jax.tasks.targets import losses, numeric, view
from bert_jax.tasks.targets.target import (
  Arrays,
  Means,
  Metrics,
  Records,
  Target,
  Vocabulary,
)
from bert_jax.tasks.targets.view import View

Logits = Float[Array, "batch choices 1"]
Probabilities = Float[np.ndarray, "_"]


@dataclasses.dataclass(frozen=True)
class RankedChoice:
  """One of the choices.

  Attributes:
    index: its index among them, from 0.
    choice: its text.
    probability: that it is the right one, from 0 to 1.
  """

  index: int
  choice: str
  probability: float


@dataclasses.dataclass(frozen=True)
class Choice(Target):
  """The right choice; the gold field is `label`.

  That is the index of the right choice, from 0, or its letter, from A. Needs
  `Choices` as inputs. The arrays of a batch:

    labels: int32 [batch], the index of the right choice.
    weights: float32 [batch], 0 for padding rows.

  Predictions are probabilities, float32 [choices].
  """

  FIELDS: ClassVar = ("label",)
  ARRAYS: ClassVar = {"labels": (np.int32, "")}
  ARCHITECTURE: ClassVar = "ForMultipleChoice"

  def head(self, config: EncoderConfig) -> Any:
    """One logit for each choice, from its pooled vector."""
    from bert_jax.models import heads  # Needs JAX.

    return heads.SequenceHead(config, 1, bias=True)

  def gold(self, record: Record) -> int:
    given = fields.label(record.get("label"))
    count = len(fields.texts(record, "choices"))
    if given.isascii() and given.isdecimal():
      index = int(given)
    else:
      letters = string.ascii_uppercase
      index = letters.find(given.upper()) if len(given) == 1 else -1
    if not 0 <= index < count:
      raise UserError(
        f"the label {given!r:.60}: expected the place of one of {count}"
        f" choices, from 0 to {count - 1}, or its letter, from A"
      )
    return index

  def arrays(self, record: Record, training: bool) -> Arrays:
    return {"labels": np.int32(self.gold(record))}

  def loss(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    values = losses.cross_entropy(_logits(outputs, batch), arrays["labels"])
    return {"loss": losses.mean(values, arrays["weights"])}

  def soft_loss(
    self,
    outputs: Logits,
    taught: Logits,
    arrays: Arrays,
    batch: Batch,
    temperature: float,
  ) -> Mean:
    logits, own = _logits(outputs, batch), _logits(taught, batch)
    values = losses.divergence(logits, own, temperature)
    return losses.mean(values, arrays["weights"])

  def metrics(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    logits, weights = _logits(outputs, batch), arrays["weights"]
    return losses.accuracy(logits, arrays["labels"], weights)

  def predict(
    self, outputs: Logits, batch: Batch, records: Records, tokenizer: Vocabulary
  ) -> list[Probabilities]:
    found = numeric.softmax(_logits(np.asarray(outputs), batch))
    return [row[: len(r["choices"])] for row, r in zip(found, records)]

  def decode(
    self, record: Record, prediction: Probabilities, tokenizer: Vocabulary
  ) -> list[RankedChoice]:
    return [
      RankedChoice(i, record["choices"][i], float(prediction[i]))
      for i in np.argsort(-prediction, kind="stable").tolist()
    ]

  def correct(
    self, records: Records, predictions: Sequence[Probabilities]
  ) -> np.ndarray:
    pairs = zip(records, predictions)
    return np.array([p.argmax() == self.gold(r) for r, p in pairs], bool)

  def evaluate(
    self, records: Records, predictions: Sequence[Probabilities]
  ) -> Metrics:
    return {"accuracy": metrics.accuracy(self.correct(records, predictions))}

  def baselines(self, records: Records) -> Metrics:
    gold = [self.gold(record) for record in records]
    return {"accuracy_majority_baseline": metrics.majority_share(gold)}

  def view(
    self, records: Records, predictions: Sequence[Probabilities]
  ) -> View:
    mistakes = []
    for i in np.flatnonzero(~self.correct(records, predictions)):
      record, found = records[i], predictions[i]
      best = int(found.argmax())
      row = {
        **view.texts(record, "text", "question"),
        "gold": record["choices"][self.gold(record)],
        "predicted": record["choices"][best],
        "probability": float(found[best]),
      }
      mistakes.append((float(found[best]), row))
    return View(mistakes=view.worst(mistakes))

  def average(
    self, batch: Batch, members: Float[Array, "members batch choices 1"]
  ) -> Logits:
    """Log of the mean probabilities among a row's choices."""
    logits = losses.log_softmax(_logits(members, batch))
    return losses.log_mean(logits)[..., None]


def _logits(
  outputs: Float[Array, "*members batch choices 1"], batch: Batch
) -> Float[Array, "*members batch choices"]:
  possible = batch.targets[f"{PREFIX}choice_weights"] > 0
  return losses.only(possible, outputs[..., 0])
