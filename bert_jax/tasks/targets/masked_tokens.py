"""The tokens at masked positions."""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bert_jax.batch import Array, Batch
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.inputs import fields
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
from bert_jax.text.tokenizer import Tokenizer

Logits = Float[Array, "batch predictions vocabulary"]


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One token for a masked position.

  Attributes:
    token: the word or piece, as `Tokenizer.decode` writes it.
    probability: the model's, from 0 to 1.
  """

  token: str
  probability: float


class Candidates(NamedTuple):
  """The most probable tokens at each mask of a text.

  Attributes:
    ids: the most probable first.
    probabilities: of these.
  """

  ids: Int[np.ndarray, "masks candidates"]
  probabilities: Float[np.ndarray, "masks candidates"]


@dataclasses.dataclass(frozen=True)
class MaskedTokens(Target):
  """The masked tokens of BERT's and RoBERTa's pretraining.

  Needs `Corpus` as inputs, which makes the arrays of a batch:

    positions: int32 [batch, predictions], the masked positions.
    ids: int32 [batch, predictions], the tokens that were there.
    weights: float32 [batch, predictions], 0 for unused slots.

  Predictions are `Candidates`.
  """

  ARRAYS: ClassVar = {
    "positions": (np.int32, "slot"),
    "ids": (np.int32, "slot"),
  }
  WEIGHTS: ClassVar = "slot"
  HEAD: ClassVar = "masked_lm"
  UNIVERSAL: ClassVar = True
  ARCHITECTURE: ClassVar = "ForMaskedLM"

  def head(self, config: EncoderConfig) -> Any:
    from bert_jax.models import heads  # Needs JAX.

    return heads.MaskedLanguageHead(config)

  def loss(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    values = losses.cross_entropy(outputs, arrays["ids"])
    return {"mlm_loss": losses.mean(values, arrays["weights"])}

  def metrics(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    found = losses.accuracy(outputs, arrays["ids"], arrays["weights"])
    return {"mlm_accuracy": found["accuracy"]}

  def corpus_baselines(self, arrays: Arrays) -> Metrics:
    """Of always giving the token that is most frequent in these arrays."""
    share = metrics.majority_share(arrays["ids"], arrays["weights"])
    return {"mlm_accuracy_unigram_baseline": share}

  def predict(
    self,
    outputs: Logits,
    batch: Batch,
    records: Records,
    tokenizer: Vocabulary,
    top_k: int = 5,
  ) -> list[Candidates]:
    """The `top_k` most probable tokens at each mask.

    Raises:
      UserError: `top_k` is no whole number above 0.
    """
    fields.at_least_one("top_k", top_k)
    # Rows that only pad the word embedding stand for no token.
    logits = outputs[..., : len(tokenizer)]
    used = np.asarray(batch.targets["masked_lm/weights"]) > 0
    probabilities, ids = _most_probable(logits, min(top_k, len(tokenizer)))
    return [
      Candidates(ids[row, used[row]], probabilities[row, used[row]])
      for row in range(len(records))
    ]

  def decode(
    self, record: Record, prediction: Candidates, tokenizer: Vocabulary
  ) -> list[list[Candidate]]:
    return [
      [Candidate(_word(tokenizer, id), p) for id, p in zip(*mask)]
      for mask in zip(*(column.tolist() for column in prediction))
    ]

  def lines(self, answer: list[list[Candidate]]) -> list[str]:
    words = (
      "  ".join(f"{c.token} {c.probability:.3f}" for c in candidates)
      for candidates in answer
    )
    return [f"mask {number}:  {line}" for number, line in enumerate(words, 1)]


def _most_probable(
  logits: Logits, count: int
) -> tuple[
  Float[np.ndarray, "batch predictions count"],
  Int[np.ndarray, "batch predictions count"],
]:
  """The probabilities and ids of the most probable tokens, these first."""
  if isinstance(logits, np.ndarray):
    found = [
      numeric.top_k(row, count)
      for row in numeric.softmax(logits).reshape(-1, logits.shape[-1])
    ]
    shape = (*logits.shape[:-1], count)
    columns = (np.reshape(column, shape) for column in zip(*found))
  else:
    # On JAX's device, since the logits are too many to be moved.
    import jax

    columns = jax.lax.top_k(jax.nn.softmax(logits, axis=-1), count)
  probabilities, ids = map(np.asarray, columns)
  return probabilities, ids


def _word(tokenizer: Tokenizer, id: int) -> str:
  """The text of one token; the name of one without text."""
  return tokenizer.decode([id]).strip() or tokenizer.token(id)
