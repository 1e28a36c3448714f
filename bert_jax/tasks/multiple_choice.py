"""Which of several texts goes with a text, as in SWAG and RACE.

The four id arrays of a batch are [batch, choices, length]. Its targets:

  labels: int32 [batch], the choice that is right.
  label_weights: float32 [batch], 0 where a row counts nothing.
  choice_weights: float32 [batch, choices], 0 where a choice only pads.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import fields, losses, rows
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean, Record


@dataclasses.dataclass(frozen=True)
class Choice:
  """One of the choices.

  Attributes:
    index: its place among them, from 0.
    choice: its text.
    probability: that it is the right one, from 0 to 1.
  """

  index: int
  choice: str
  probability: float


def make(
  config: EncoderConfig,
  tokenizer: Tokenizer | None,
  head: None = None,
  data: None = None,
  seed: int = 0,
) -> Task:
  """Makes the task.

  Args:
    config: the encoder's.
    tokenizer: None where only ids go in.
    head: this task has nothing to set.
    data: there is no way to train it yet.
    seed: not used.
  """
  del head, data, seed
  return Task(
    name="multiple_choice",
    config=config,
    tokenizer=tokenizer,
    model=heads.MultipleChoiceModel(config),
    blank=rows.blank(
      {
        "labels": np.zeros((), np.int32),
        "label_weights": np.zeros((), np.float32),
        "choice_weights": np.zeros(2, np.float32),
      },
      shape=(2, 4),
    ),
    loss=loss,
    metrics=metrics,
    prepare=functools.partial(prepare, tokenizer, rows.max_length(config)),
    answer=answer,
  )


def prepare(
  tokenizer: Tokenizer | None, max_length: int, record: Record
) -> list[Batch]:
  """A text, paired with each of the choices and cut to the longest row.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    record: `text` and `choices`, a list of texts.

  Returns:
    One unbatched example, its id arrays [choices, length].

  Raises:
    UserError: a field is missing, no text or empty, or there is no
      vocabulary.
  """
  tokenizer = fields.need_tokenizer(tokenizer)
  text, choices = fields.text(record, "text"), fields.texts(record, "choices")
  made = [
    rows.example(rows.encode(tokenizer, max_length, text, choice))
    for choice in choices
  ]
  length = max(row.token_ids.size for row in made)
  ids = {
    name: np.stack(
      [
        np.pad(x, (0, length - x.size))
        for x in (getattr(r, name) for r in made)
      ]
    )
    for name in ("token_ids", "segment_ids", "position_ids", "sequence_ids")
  }
  weights = np.ones(len(choices), np.float32)
  return [Batch(**ids, targets={"choice_weights": weights})]


def answer(
  outputs: Float[Array, "batch choices"],
  batch: Batch,
  records: Sequence[Record],
) -> Sequence[list[Choice]]:
  """For each row its choices, the likeliest first."""
  probabilities = np.asarray(jax.nn.softmax(_logits(outputs, batch), axis=-1))
  order = np.argsort(-probabilities, axis=-1, kind="stable")
  return [
    [
      Choice(int(i), record["choices"][i], float(probabilities[row, i]))
      for i in order[row]
      if i < len(record["choices"])
    ]
    for row, record in enumerate(records)
  ]


def _logits(
  outputs: Float[Array, "batch choices"], batch: Batch
) -> Float[Array, "batch choices"]:
  return losses.only(batch.targets["choice_weights"] > 0, outputs)


def loss(
  outputs: Float[Array, "batch choices"], batch: Batch
) -> dict[str, Mean]:
  """Cross-entropy over a row's choices, in nats."""
  targets = batch.targets
  values = losses.cross_entropy(_logits(outputs, batch), targets["labels"])
  return {"choice_loss": losses.mean(values, targets["label_weights"])}


def metrics(
  outputs: Float[Array, "batch choices"], batch: Batch
) -> dict[str, Mean]:
  """The share of rows whose right choice is the likeliest."""
  targets = batch.targets
  right = _logits(outputs, batch).argmax(-1) == targets["labels"]
  return {"accuracy": losses.mean(right, targets["label_weights"])}
