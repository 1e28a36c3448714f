"""Pooling: one vector for each sequence, from the vectors of its tokens.

The arrays are JAX's or NumPy's, and so is what is returned.
"""

import dataclasses
from collections.abc import Sequence

from jaxtyping import Bool, Float, Int

from bert_jax.batch import Array, Batch
from bert_jax.models.activation_names import NAMES
from bert_jax.models.config import EncoderConfig


@dataclasses.dataclass(frozen=True)
class VectorModule:
  """What follows pooling, a module of sentence-transformers.

  Attributes:
    kind: `dense`, `layer_norm` or `normalize`.
    features: the width of its output, 0 for that of its input.
    bias: whether a dense layer has a bias.
    activation: that follows a dense layer, one of `activation_names.NAMES`.
  """

  kind: str
  features: int = 0
  bias: bool = True
  activation: str = "identity"

  def __post_init__(self):
    kinds = ("dense", "layer_norm", "normalize")
    if self.kind not in kinds or self.activation not in NAMES:
      raise ValueError(
        f"kind: expected one of {', '.join(kinds)} and a known activation, got"
        f" {self.kind} and {self.activation}"
      )
    if (self.kind == "dense") != (self.features > 0):
      raise ValueError(
        f"features: expected above 0 for dense and else 0, got {self.features}"
      )


def mean_of_tokens(
  hidden: Float[Array, "... length hidden"],
  sequence_ids: Int[Array, "... length"],
) -> Float[Array, "... hidden"]:
  """The mean vector of the tokens of each row without padding; float32."""
  xp = hidden.__array_namespace__()
  used = (sequence_ids > 0)[..., None]
  total = (hidden * used).sum(-2, dtype=xp.float32)
  return total / _count(used)


def last_token(
  hidden: Float[Array, "... length hidden"],
  sequence_ids: Int[Array, "... length"],
) -> Float[Array, "... hidden"]:
  """The vector of the last token of each row that is not padding."""
  xp = hidden.__array_namespace__()
  numbers = xp.arange(sequence_ids.shape[-1])
  last = xp.where(sequence_ids > 0, numbers, 0).max(-1)
  return xp.take_along_axis(hidden, last[..., None, None], axis=-2)[..., 0, :]


def _count(used: Bool[Array, "*rows length 1"]) -> Float[Array, "*rows 1"]:
  """The number of tokens of each row, at least 1."""
  xp = used.__array_namespace__()
  # NumPy would make float64 of float32 by integers.
  return xp.maximum(used.sum(-2), 1).astype(xp.float32)


MODES = (
  "cls",
  "max",
  "mean",
  "mean_sqrt_len_tokens",
  "weightedmean",
  "lasttoken",
)
"""The modes of `pool_tokens`, named as in sentence-transformers."""


def pool_tokens(
  hidden: Float[Array, "*rows length hidden"],
  sequence_ids: Int[Array, "*rows length"],
  modes: Sequence[str],
  skipped: Int[Array, " batch"] | None = None,
) -> Float[Array, "*rows width"]:
  """The vectors of all modes for each row, concatenated; float32.

  Args:
    hidden: the vectors of tokens.
    sequence_ids: 0 for padding.
    modes: of `MODES`. `cls` is the first token; `mean_sqrt_len_tokens` divides
      the sum by the root of the number of tokens; `weightedmean` weights tokens
      by their position, from 1.
    skipped: the number of tokens at the start of each row that are left out.
  """
  xp = hidden.__array_namespace__()
  hidden = hidden.astype(xp.float32)
  length = sequence_ids.shape[-1]
  if skipped is not None:
    skipped = skipped.reshape(*skipped.shape, *[1] * (sequence_ids.ndim - 1))
    sequence_ids = xp.where(xp.arange(length) < skipped, 0, sequence_ids)
  used = (sequence_ids > 0)[..., None]

  def first() -> Array:
    if skipped is None:
      return hidden[..., 0, :]
    place = used.argmax(-2)[..., None]
    return xp.take_along_axis(hidden, place, axis=-2)[..., 0, :]

  def root_mean() -> Array:
    total = (hidden * used).sum(-2)
    return total / xp.sqrt(_count(used))

  def weighted_mean() -> Array:
    weights = used * xp.arange(1, length + 1, dtype=xp.float32)[:, None]
    return (hidden * weights).sum(-2) / xp.maximum(weights.sum(-2), 1)

  pooled = {
    "cls": first,
    "max": lambda: xp.where(used, hidden, -1e9).max(-2),
    "mean": lambda: mean_of_tokens(hidden, sequence_ids),
    "mean_sqrt_len_tokens": root_mean,
    "weightedmean": weighted_mean,
    "lasttoken": lambda: last_token(hidden, sequence_ids),
  }
  return xp.concatenate([pooled[name]() for name in modes], axis=-1)


def unit(vectors: Float[Array, "*texts width"]) -> Float[Array, "*texts width"]:
  """Scaled to length 1; zeros stay, and their gradients are finite."""
  xp = vectors.__array_namespace__()
  squares = xp.square(vectors).sum(-1, keepdims=True)
  return vectors / xp.sqrt(xp.maximum(squares, 1e-24))


def pool(
  config: EncoderConfig,
  hidden: Float[Array, "*rows length hidden"],
  batch: Batch,
) -> Float[Array, "*rows hidden"]:
  """The input of the pooler for rows of one sequence each."""
  if config.pooling == "first":
    return hidden[..., 0, :]
  if config.pooling == "last":
    return last_token(hidden, batch.sequence_ids)
  return mean_of_tokens(hidden, batch.sequence_ids).astype(hidden.dtype)


def pool_each(
  config: EncoderConfig,
  hidden: Float[Array, "batch length hidden"],
  batch: Batch,
  count: int,
) -> Float[Array, "batch sequences hidden"]:
  """The input of the pooler for each of up to `count` sequences of a row.

  The vectors of sequences that a row lacks are finite and meaningless.
  """
  if count == 1:
    return pool(config, hidden, batch)[:, None]
  xp = hidden.__array_namespace__()
  numbers = xp.arange(1, count + 1)[:, None]
  is_own = (batch.sequence_ids[:, None] == numbers).astype(xp.int32)
  if config.pooling == "first":
    first = is_own.argmax(-1)
    return xp.take_along_axis(hidden, first[:, :, None], axis=1)
  if config.pooling == "last":
    return last_token(hidden[:, None], is_own)
  return mean_of_tokens(hidden[:, None], is_own).astype(hidden.dtype)
