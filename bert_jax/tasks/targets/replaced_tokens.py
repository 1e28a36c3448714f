"""Which tokens of a text were replaced: ELECTRA's discriminator."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from bert_jax.batch import Array, Batch
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.inputs.rows import PREFIX
from bert_jax.tasks.targets import losses, numeric
from bert_jax.tasks.targets.target import (
  Arrays,
  Means,
  Records,
  Target,
  Vocabulary,
)

Logits = Float[Array, "batch length 1"]


@dataclasses.dataclass(frozen=True)
class Token:
  """A token of a text.

  Attributes:
    token: the piece.
    start: its first character in the text.
    end: one past its last.
    probability: that it was replaced, from 0 to 1.
  """

  token: str
  start: int
  end: int
  probability: float


class Replaced(NamedTuple):
  """How probable it is that each token was replaced."""

  ids: Int[np.ndarray, " tokens"]
  starts: Int[np.ndarray, " tokens"]
  ends: Int[np.ndarray, " tokens"]
  probabilities: Float[np.ndarray, " tokens"]


@dataclasses.dataclass(frozen=True)
class ReplacedTokens(Target):
  """Which tokens were replaced (Clark et al. 2020, arXiv:2003.10555).

  Needs `Tokens` as inputs. The arrays of a batch:

    replaced: float32 [batch, length], 1 where a token was replaced.

  Predictions are `Replaced`.
  """

  ARRAYS: ClassVar = {"replaced": (np.float32, "token")}
  ARCHITECTURE: ClassVar = "ForPreTraining"

  def head(self, config: EncoderConfig) -> Any:
    """One logit for each token, after the shared transform."""
    from bert_jax.models import heads  # Needs JAX.

    return heads.TokenHead(config, 1, bias=True, has_transform=True)

  @property
  def array_specs(self) -> Mapping[str, tuple[Any, str]]:
    """All tokens but padding count, so there are no weights."""
    return self.ARRAYS

  def loss(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    """Binary cross-entropy of all tokens but padding, in nats.

    Special tokens count too, as in `ElectraForPreTraining` of Transformers.
    """
    logits = outputs[..., 0]
    values = losses.binary_cross_entropy(logits, arrays["replaced"])
    return {"replaced_loss": losses.mean(values, _used(batch))}

  def metrics(self, outputs: Logits, arrays: Arrays, batch: Batch) -> Means:
    right = (outputs[..., 0] > 0) == (arrays["replaced"] > 0)
    return {"replaced_accuracy": losses.mean(right, _used(batch))}

  def predict(
    self, outputs: Logits, batch: Batch, records: Records, tokenizer: Vocabulary
  ) -> list[Replaced]:
    own = np.asarray(batch.targets[f"{PREFIX}own"])
    columns = (
      np.asarray(batch.token_ids),
      np.asarray(batch.targets[f"{PREFIX}starts"]),
      np.asarray(batch.targets[f"{PREFIX}ends"]),
      numeric.sigmoid(outputs[..., 0]),
    )
    return [
      Replaced(*(column[row, own[row]] for column in columns))
      for row in range(len(records))
    ]

  def merge(self, record: Record, predictions: Sequence[Replaced]) -> Replaced:
    return Replaced(*map(np.concatenate, zip(*predictions)))

  def decode(
    self, record: Record, prediction: Replaced, tokenizer: Vocabulary
  ) -> list[Token]:
    columns = (column.tolist() for column in prediction)
    return [Token(tokenizer.token(id), *rest) for id, *rest in zip(*columns)]

  def average(
    self, batch: Batch, members: Float[Array, "members batch length 1"]
  ) -> Logits:
    del batch
    return losses.log_mean_odds(members)


def _used(batch: Batch) -> Float[Array, "batch length"]:
  return (batch.sequence_ids > 0).astype(np.float32)
