"""Numbers for a text or a pair of texts.

The targets of a batch:

  values: float32 [batch, labels], standardised by the head's means and scales.
  value_weights: float32 [batch], 0 where a row counts nothing.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import supervised
from bert_jax.tasks.common import losses, rows, sequences, values
from bert_jax.tasks.scores import regression as scores
from bert_jax.tasks.supervised import load_tokenizer
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean, Parameters

__all__ = ["Data", "Head", "load_tokenizer", "make", "unscaled"]

FIELDS = supervised.Fields(
  ("text", "label", "pair", "values"),
  optional=("label", "pair", "values"),
  lists=("values",),
)


@dataclasses.dataclass(frozen=True)
class Head:
  """What makes the head.

  Attributes:
    labels: the names of the values.
    max_length: longer texts are cut to so many tokens, special tokens
      included; 0 is the longest that the encoder takes.
    means: added to what the model gives, once it is multiplied by the scale:
      one a value; none given is 0 for all.
    scales: see `means`; none given is 1 for all.
  """

  labels: tuple[str, ...] = ("value",)
  max_length: int = 0
  means: tuple[float, ...] = ()
  scales: tuple[float, ...] = ()

  def __post_init__(self):
    supervised.check_labels("labels", self.labels)
    supervised.check_max_length(self.max_length)
    for name, default in (("means", 0.0), ("scales", 1.0)):
      given = getattr(self, name)
      filled = sequences.one_each(name, given, self.labels, default)
      object.__setattr__(self, name, filled)
    if min(self.scales) <= 0:
      raise ValueError(f"scales: expected above 0, got {list(self.scales)}")


@dataclasses.dataclass(frozen=True)
class Data(supervised.Data):
  """The section `config.data`: records with `text`, numbers and maybe `pair`.

  The numbers are the list `values`, or `label` where there is only one.
  Besides these, the fields of `supervised.Data`.

  Attributes:
    labels: the names of the values; by default `value`, or `value_0` and so
      on.
  """

  labels: tuple[str, ...] = ()

  def __post_init__(self):
    super().__post_init__()
    if self.labels:
      supervised.check_labels("labels", self.labels)


@dataclasses.dataclass(frozen=True)
class Value:
  """A number for a text.

  Attributes:
    label: its name.
    value: what the model gives, in the unit of the training records.
  """

  label: str
  value: float


def make(
  config: EncoderConfig,
  tokenizer: Tokenizer | None,
  head: Head | None = None,
  data: Data | None = None,
  seed: int = 0,
) -> Task:
  """Makes the task.

  Args:
    config: the encoder's.
    tokenizer: None where only ids go in.
    head: names, means and scales; with data, those of the head to go on from,
      which stay if it has as many values, and the names that data gives.
    data: what to learn from; None to predict only.
    seed: not used.

  Raises:
    UserError: the data cannot be read, or are not for this task.
  """
  del seed
  labelled = data and supervised.read(data, FIELDS)
  if labelled:
    head, labelled = _fitted(config, data, head, labelled)
  head = head or Head()
  longest = rows.max_length(config, head.max_length)
  task = Task(
    name="regression",
    config=config,
    tokenizer=tokenizer,
    model=heads.SequenceClassifier(config, len(head.labels)),
    blank=rows.blank(
      {
        "values": np.zeros(len(head.labels), np.float32),
        "value_weights": np.zeros((), np.float32),
      }
    ),
    loss=loss,
    metrics=functools.partial(metrics, head),
    prepare=functools.partial(prepare, tokenizer, longest, head),
    answer=functools.partial(answer, head),
    axes=grouping.Axes(fixed=frozenset({"values"})),
    score=score,
    baselines=functools.partial(baselines, head),
    head=head,
  )
  return supervised.with_data(task, data, labelled, longest)


def _fitted(
  config: EncoderConfig,
  data: Data,
  head: Head | None,
  labelled: supervised.Labelled,
) -> tuple[Head, supervised.Labelled]:
  """The head that suits the training records, and the records that suit it."""
  _, (first, *_) = labelled.train.each(values.all_of)
  names = data.labels
  if not names and head and len(head.labels) == len(first):
    names = head.labels
  if not names:
    names = tuple(f"value_{n}" for n in range(len(first)))
    names = names if len(names) > 1 else Head.labels
  # Here, what has no gold values is a bad row, and not one to predict.
  of_row = functools.partial(values.of, names)
  train, found = labelled.train.each(of_row)
  evaluation, _ = labelled.evaluation.each(of_row)
  max_length = rows.max_length(config, data.max_length)
  if head and head.labels == names:
    # So the weights that training goes on from keep their meaning.
    fitted = dataclasses.replace(head, max_length=max_length)
  else:
    gold = np.array(found)
    constant = np.ptp(gold, axis=0) == 0
    fitted = Head(
      names,
      max_length,
      means=tuple(gold.mean(0).tolist()),
      scales=tuple(np.where(constant, 1.0, gold.std(0)).tolist()),
    )
  return fitted, supervised.Labelled(train, evaluation)


def prepare(
  tokenizer: Tokenizer | None, max_length: int, head: Head, record: Record
) -> list[Batch]:
  """A text or a pair of texts, with its targets where there are gold values.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    head: means and scales of the values.
    record: `text`, `pair` where there are two, and the gold `values` if any,
      or a single one as `label`.

  Raises:
    UserError: the values are no numbers, or not as many as the head has; or
      as `sequences.prepare`.
  """
  targets = {}
  if "values" in record or "label" in record:
    gold = np.array(values.of(head.labels, record))
    scaled = (gold - np.array(head.means)) / np.array(head.scales)
    targets = {
      "values": scaled.astype(np.float32),
      "value_weights": np.ones((), np.float32),
    }
  return sequences.prepare(tokenizer, max_length, record, targets)


def answer(
  head: Head,
  outputs: Float[Array, "batch labels"],
  batch: Batch,
  records: Sequence[Record],
) -> Sequence[list[Value]]:
  """For each row its values, in the order of the head.

  Args:
    head: names, means and scales.
    outputs: the model's.
    batch: what they are for.
    records: of its rows.
  """
  del batch
  found = np.asarray(outputs) * np.array(head.scales) + np.array(head.means)
  return [
    list(map(Value, head.labels, row)) for row in found[: len(records)].tolist()
  ]


def loss(
  outputs: Float[Array, "batch labels"], batch: Batch
) -> dict[str, Mean]:
  """The squared error of standardised values, the mean over the values.

  As `BertForSequenceClassification` has it for this problem.
  """
  errors = jnp.square(outputs - batch.targets["values"]).mean(-1)
  weights = batch.targets["value_weights"]
  return {"regression_loss": losses.mean(errors, weights)}


def metrics(
  head: Head, outputs: Float[Array, "batch labels"], batch: Batch
) -> dict[str, Mean]:
  """The absolute error in the unit of the records, the mean over the values."""
  errors = jnp.abs(outputs - batch.targets["values"])
  scaled = (errors * np.array(head.scales, np.float32)).mean(-1)
  return {"mae": losses.mean(scaled, batch.targets["value_weights"])}


def score(
  head: Head,
  answers: Sequence[Sequence[Value]],
  records: Sequence[Record],
) -> dict[str, float]:
  """Correlations and errors; see `scores.score`."""
  gold = [values.of(head.labels, record) for record in records]
  predicted = [[value.value for value in row] for row in answers]
  return scores.score(gold, predicted, head.labels)


def baselines(head: Head, records: Sequence[Record]) -> dict[str, float]:
  """The errors of always giving the mean of the training records."""
  gold = [values.of(head.labels, record) for record in records]
  found = scores.score(gold, [head.means] * len(gold), head.labels)
  return {f"{name}_mean_baseline": found[name] for name in ("rmse", "mae")}


def unscaled(head: Head, params: Parameters) -> Parameters:
  """Parameters that give in themselves what the head makes of these.

  Args:
    head: means and scales, which no config.json of Transformers has.
    params: of the task's model.

  Returns:
    The same tree with another classifier, for a head without either.
  """
  classifier = jax.tree.map(np.asarray, params["classifier"])
  scales = np.array(head.scales, np.float32)
  folded = {
    "kernel": classifier["kernel"] * scales,
    "bias": classifier["bias"] * scales + np.array(head.means, np.float32),
  }
  return {**params, "classifier": folded}
