"""BERT's pretraining: masked words and the next sentence.

The targets of a batch are those of `masked_lm` and

  next_sentence_labels: int32 [batch, sequences], 0 for the true next, 1 for a
    random one.
  next_sentence_weights: float32 [batch, sequences], 0 where there is no pair.

There are `max_sequences` slots a row, of which a row's sequences take the
first ones, in their order.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import masked_lm
from bert_jax.tasks.common import losses
from bert_jax.tasks.masked_lm import load_tokenizer
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean

__all__ = ["Data", "load_tokenizer", "make"]


@dataclasses.dataclass(frozen=True)
class Data(masked_lm.Data):
  """The section `config.data`: that of `masked_lm`, with pairs."""

  next_sentence: bool = True


def make(
  config: EncoderConfig,
  tokenizer: Tokenizer | None,
  head: None = None,
  data: Data | None = None,
  seed: int = 0,
) -> Task:
  """Makes the task; see `masked_lm.make`."""
  task = masked_lm.make(config, tokenizer, head, data, seed)
  return dataclasses.replace(
    task,
    name="pretraining",
    model=heads.PretrainingModel(config),
    loss=loss,
    metrics=metrics,
    data=data and dataclasses.replace(task.data, baselines=baselines),
  )


def loss(outputs: heads.PretrainingOutputs, batch: Batch) -> dict[str, Mean]:
  """Cross-entropy of the masked words and of the pairs, in nats."""
  targets = batch.targets
  pairs = losses.mean(
    losses.cross_entropy(
      outputs.next_sentence, targets["next_sentence_labels"]
    ),
    targets["next_sentence_weights"],
  )
  return masked_lm.loss(outputs, batch) | {"nsp_loss": pairs}


def metrics(outputs: heads.PretrainingOutputs, batch: Batch) -> dict[str, Mean]:
  """The share of masked words, and of pairs, that the model gets right."""
  targets = batch.targets
  pairs = losses.mean(
    outputs.next_sentence.argmax(-1) == targets["next_sentence_labels"],
    targets["next_sentence_weights"],
  )
  return masked_lm.metrics(outputs, batch) | {"nsp_accuracy": pairs}


def baselines(batches: Iterable[Batch]) -> dict[str, float]:
  """What always guessing the commonest word, or pair label, would score."""
  batches = list(batches)
  labels = np.zeros(2)
  for batch in batches:
    labels += np.bincount(
      batch.targets["next_sentence_labels"].ravel(),
      batch.targets["next_sentence_weights"].ravel(),
      minlength=2,
    )
  majority = float(labels.max() / max(labels.sum(), 1))
  return masked_lm.baselines(batches) | {
    "nsp_accuracy_majority_baseline": majority
  }
