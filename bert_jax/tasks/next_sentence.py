"""Whether one text follows another; ALBERT's order of sentences too.

The targets of a batch:

  next_sentence_labels: int32 [batch], 0 for the true next, 1 for another.
  next_sentence_weights: float32 [batch], 0 where a row counts nothing.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from bert_jax.data.sources.labelled import Record
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.common import fields, losses, rows
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean


@dataclasses.dataclass(frozen=True)
class NextSentence:
  """What the model holds of a pair of texts.

  Attributes:
    probability: that the second follows the first, from 0 to 1.
  """

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
    data: there is no way to train it alone; see `pretraining`.
    seed: not used.
  """
  del head, data, seed
  return Task(
    name="next_sentence",
    config=config,
    tokenizer=tokenizer,
    model=heads.SequenceClassifier(config, 2),
    blank=rows.blank(
      {
        "next_sentence_labels": np.zeros((), np.int32),
        "next_sentence_weights": np.zeros((), np.float32),
      }
    ),
    loss=loss,
    metrics=metrics,
    prepare=functools.partial(prepare, tokenizer, rows.max_length(config)),
    answer=answer,
  )


def prepare(
  tokenizer: Tokenizer | None, max_length: int, record: Record
) -> list[Batch]:
  """A pair of texts, cut to the longest row.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    record: `text` and `pair`, which may follow it.

  Raises:
    UserError: a field is missing or no text, or there is no vocabulary.
  """
  tokenizer = fields.need_tokenizer(tokenizer)
  text, pair = fields.text(record, "text"), fields.text(record, "pair")
  return [rows.example(rows.encode(tokenizer, max_length, text, pair))]


def answer(
  outputs: Float[Array, "batch 2"], batch: Batch, records: Sequence[Record]
) -> Sequence[NextSentence]:
  """For each row the probability that its second text follows."""
  del batch
  probabilities = np.asarray(jax.nn.softmax(outputs, axis=-1)[:, 0])
  return [NextSentence(p) for p in probabilities[: len(records)].tolist()]


def loss(outputs: Float[Array, "batch 2"], batch: Batch) -> dict[str, Mean]:
  """Cross-entropy, in nats."""
  targets = batch.targets
  values = losses.cross_entropy(outputs, targets["next_sentence_labels"])
  return {"nsp_loss": losses.mean(values, targets["next_sentence_weights"])}


def metrics(outputs: Float[Array, "batch 2"], batch: Batch) -> dict[str, Mean]:
  """The share of pairs that the model gets right."""
  targets = batch.targets
  right = outputs.argmax(-1) == targets["next_sentence_labels"]
  return {"nsp_accuracy": losses.mean(right, targets["next_sentence_weights"])}
