"""Which tokens of a text were replaced: ELECTRA's discriminator."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bert_jax.data.sources.labelled import Record
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.inputs.inputs import PREFIX
from bert_jax.tasks.inputs.rows import Row
from bert_jax.tasks.targets import losses
from bert_jax.tasks.targets.target import Arrays, Target
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean


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

  PER_TOKEN: ClassVar = ("replaced",)
  ARCHITECTURE: ClassVar = "ForPreTraining"

  def head(self, config: EncoderConfig) -> nn.Module:
    """One logit for each token, after the shared transform."""
    return heads.TokenHead(config, 1, bias=True, has_transform=True)

  def encode(
    self, record: Record, rows: Sequence[Row], training: bool = False
  ) -> list[Arrays]:
    """Records have no gold field."""
    del record, training
    return [{} for _ in rows]

  def dummy_arrays(self) -> Arrays:
    """As in the base class."""
    return {"replaced": np.zeros(4, np.float32)}

  def loss(
    self, outputs: Float[Array, "batch length 1"], arrays: Arrays, batch: Batch
  ) -> dict[str, Mean]:
    """Binary cross-entropy of all tokens but padding, in nats.

    Special tokens count too, as in `ElectraForPreTraining` of Transformers.
    """
    logits = outputs[..., 0]
    values = losses.binary_cross_entropy(logits, arrays["replaced"])
    return {"replaced_loss": losses.mean(values, _used(batch))}

  def metrics(
    self, outputs: Float[Array, "batch length 1"], arrays: Arrays, batch: Batch
  ) -> dict[str, Mean]:
    """The accuracy of tokens."""
    right = (outputs[..., 0] > 0) == (arrays["replaced"] > 0)
    return {"replaced_accuracy": losses.mean(right, _used(batch))}

  def predict(
    self,
    outputs: Float[Array, "batch length 1"],
    batch: Batch,
    records: Sequence[Record],
    tokenizer: Tokenizer | None,
  ) -> list[Replaced]:
    """The tokens that each row predicts."""
    own = np.asarray(batch.targets[f"{PREFIX}own"])
    columns = (
      np.asarray(batch.token_ids),
      np.asarray(batch.targets[f"{PREFIX}starts"]),
      np.asarray(batch.targets[f"{PREFIX}ends"]),
      np.asarray(jax.nn.sigmoid(outputs[..., 0])),
    )
    return [
      Replaced(*(column[row, own[row]] for column in columns))
      for row in range(len(records))
    ]

  def merge(self, record: Record, predictions: Sequence[Replaced]) -> Replaced:
    """The tokens of all chunks."""
    return Replaced(*map(np.concatenate, zip(*predictions)))

  def decode(
    self, record: Record, prediction: Replaced, tokenizer: Tokenizer | None
  ) -> list[Token]:
    """The tokens with their probabilities."""
    columns = (column.tolist() for column in prediction)
    return [Token(tokenizer.token(id), *rest) for id, *rest in zip(*columns)]

  def average(
    self, batch: Batch, members: Float[Array, "members batch length 1"]
  ) -> Float[Array, "batch length 1"]:
    """The logit of the mean probabilities."""
    del batch
    return losses.log_mean_odds(members)


def _used(batch: Batch) -> Float[Array, "batch length"]:
  return (batch.sequence_ids > 0).astype(jnp.float32)
