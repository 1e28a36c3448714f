"""Labels for a text or a pair of texts.

The targets of a batch:

  labels: int32 [batch], each row's label; float32 [batch, labels] for
    `multi_label` (0 or 1) and `regression` (the values).
  label_weights: float32 [batch], 0 where a row counts nothing.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import fields, losses, rows
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean, Record

PROBLEMS = ("single_label", "multi_label", "regression")
_ONE_LABEL = "single_label"


@dataclasses.dataclass(frozen=True)
class Head:
  """What makes the head.

  Attributes:
    labels: the names of the labels, or of the values of a regression.
    problem: `single_label` (one of them is right), `multi_label` (any number)
      or `regression`.
    max_length: longer texts are cut to so many tokens, special tokens
      included; 0 is the longest that the encoder takes.
  """

  labels: tuple[str, ...] = ("LABEL_0", "LABEL_1")
  problem: str = _ONE_LABEL
  max_length: int = 0

  def __post_init__(self):
    if not self.labels:
      raise ValueError("labels: expected at least one, got none")
    if self.problem not in PROBLEMS:
      raise ValueError(
        f"problem: expected one of {', '.join(PROBLEMS)}, got {self.problem!r}"
      )
    if self.max_length < 0:
      raise ValueError(
        f"max_length: expected at least 0, got {self.max_length}"
      )


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
class Value:
  """A value of a regression.

  Attributes:
    label: its name.
    value: what the model gives.
  """

  label: str
  value: float


def make(
  config: EncoderConfig,
  tokenizer: Tokenizer | None,
  head: Head = Head(),
  data: None = None,
  seed: int = 0,
) -> Task:
  """Makes the task.

  Args:
    config: the encoder's.
    tokenizer: None where only ids go in.
    head: the labels.
    data: there is no way to train it yet.
    seed: not used.
  """
  del data, seed
  labels = np.zeros(len(head.labels), np.float32)
  if head.problem == _ONE_LABEL:
    labels = np.zeros((), np.int32)
  return Task(
    name="classification",
    config=config,
    tokenizer=tokenizer,
    model=heads.SequenceClassifier(config, len(head.labels)),
    blank=rows.blank(
      {"labels": labels, "label_weights": np.zeros((), np.float32)}
    ),
    loss=functools.partial(loss, head.problem),
    metrics=functools.partial(metrics, head.problem),
    prepare=functools.partial(
      prepare, tokenizer, rows.max_length(config, head.max_length)
    ),
    answer=functools.partial(answer, head),
    head=head,
  )


def prepare(
  tokenizer: Tokenizer | None, max_length: int, record: Record
) -> list[Batch]:
  """A text or a pair of texts, cut to the longest row.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    record: `text`, and `pair` where there are two.

  Raises:
    UserError: a field is missing or no text, or there is no vocabulary.
  """
  tokenizer = fields.need_tokenizer(tokenizer)
  text, pair = fields.text(record, "text"), fields.pair(record)
  return [rows.example(rows.encode(tokenizer, max_length, text, pair))]


def answer(
  head: Head,
  outputs: Float[Array, "batch labels"],
  batch: Batch,
  records: Sequence[Record],
  top_k: int | None = None,
) -> Sequence[list[Label] | list[Value]]:
  """For each row its labels, the likeliest first, or its values.

  Args:
    head: the labels.
    outputs: the model's.
    batch: what they are for.
    records: of its rows.
    top_k: how many labels; None for all. A regression has all values.

  Raises:
    UserError: `top_k` is no whole number above 0.
  """
  del batch
  count = len(head.labels)
  if top_k is not None:
    count = min(fields.at_least_one("top_k", top_k), count)
  if head.problem == "regression":
    values = np.asarray(outputs).tolist()
    return [
      list(map(Value, head.labels, row)) for row in values[: len(records)]
    ]
  if head.problem == "multi_label":
    scores = jax.nn.sigmoid(outputs)
  else:
    scores = jax.nn.softmax(outputs, axis=-1)
  probabilities, ids = map(np.asarray, jax.lax.top_k(scores, count))
  return [
    [Label(head.labels[i], p) for i, p in zip(*row)]
    for row in zip(
      ids[: len(records)].tolist(), probabilities[: len(records)].tolist()
    )
  ]


def loss(
  problem: str, outputs: Float[Array, "batch labels"], batch: Batch
) -> dict[str, Mean]:
  """Cross-entropy, binary cross-entropy or squared error, by the problem.

  The last two are means over the labels. As the classes
  `...ForSequenceClassification` of Transformers have them.
  """
  labels = batch.targets["labels"]
  if problem == _ONE_LABEL:
    values = losses.cross_entropy(outputs, labels)
  elif problem == "multi_label":
    values = losses.binary_cross_entropy(outputs, labels).mean(-1)
  else:
    values = jnp.square(outputs - labels).mean(-1)
  weights = batch.targets["label_weights"]
  return {"classification_loss": losses.mean(values, weights)}


def metrics(
  problem: str, outputs: Float[Array, "batch labels"], batch: Batch
) -> dict[str, Mean]:
  """The share of labels that are right; of a regression the absolute error.

  For `multi_label` every label of a row is one to get right, by itself.
  """
  labels, weights = batch.targets["labels"], batch.targets["label_weights"]
  if problem == "regression":
    errors = jnp.abs(outputs - labels).mean(-1)
    return {"absolute_error": losses.mean(errors, weights)}
  if problem == _ONE_LABEL:
    right = outputs.argmax(-1) == labels
  else:
    right = ((outputs > 0) == (labels > 0)).mean(-1)
  return {"accuracy": losses.mean(right, weights)}
