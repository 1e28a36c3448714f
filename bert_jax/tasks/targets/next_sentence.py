"""Whether one text follows another; ALBERT's order of sentences too."""

import dataclasses
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from bert_jax.batch import Array, Batch
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.metrics import labels as metrics
from bert_jax.tasks.targets import losses, numeric
from bert_jax.tasks.targets.target import (
  Arrays,
  Means,
  Metrics,
  Records,
  Target,
  Vocabulary,
)

Logits = Float[Array, "batch sequences 2"]


@dataclasses.dataclass(frozen=True)
class Follows:
  """The prediction for a pair of texts.

  Attributes:
    probability: that the second follows the first, from 0 to 1.
  """

  probability: float


@dataclasses.dataclass(frozen=True)
class NextSentence(Target):
  """Whether the second text of a pair follows the first.

  The arrays of a batch:

    labels: int32 [batch, sequences], 0 for the next, 1 for a random text.
    weights: float32 [batch, sequences], 0 where there is no pair.

  A row has as many slots as packed sequences, which take the first ones, in
  their order. Predictions are the probability that the second text follows.
  """

  ARRAYS: ClassVar = {"labels": (np.int32, "slot")}
  WEIGHTS: ClassVar = "slot"
  HEAD: ClassVar = "next_sentence"
  UNIVERSAL: ClassVar = True
  ARCHITECTURE: ClassVar = "ForNextSentencePrediction"

  def head(self, config: EncoderConfig) -> Any:
    from bert_jax.models import heads  # Needs JAX.

    return heads.NextSentenceHead(config, 2, bias=True)

  def loss(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    values = losses.cross_entropy(outputs, arrays["labels"])
    return {"nsp_loss": losses.mean(values, arrays["weights"])}

  def metrics(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    found = losses.accuracy(outputs, arrays["labels"], arrays["weights"])
    return {"nsp_accuracy": found["accuracy"]}

  def corpus_baselines(self, arrays: Arrays) -> Metrics:
    share = metrics.majority_share(arrays["labels"], arrays["weights"])
    return {"nsp_accuracy_majority_baseline": share}

  def predict(
    self, outputs: Logits, batch: Batch, records: Records, tokenizer: Vocabulary
  ) -> list[float]:
    found = numeric.softmax(outputs)[: len(records), 0, 0]
    return found.tolist()

  def decode(
    self, record: Record, prediction: float, tokenizer: Vocabulary
  ) -> Follows:
    return Follows(prediction)
