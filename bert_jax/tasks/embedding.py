"""A vector for a text, as sentence-transformers makes it from an encoder."""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import fields, rows
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean, Record

POOLING = ("cls", "max", "mean")
"""In the order in which several are concatenated."""


@dataclasses.dataclass(frozen=True)
class Head:
  """How the vectors of tokens become that of a text.

  Attributes:
    pooling: `cls` (the first token's), `max` or `mean` over all tokens; of
      several the results are concatenated, in this order.
    normalize: whether vectors are scaled to length 1.
    max_length: longer texts are cut to so many tokens, special tokens
      included; 0 is the longest that the encoder takes.
    prompt: what texts begin with, as models for search ask for: `query: `.
  """

  pooling: tuple[str, ...] = ("mean",)
  normalize: bool = False
  max_length: int = 0
  prompt: str = ""

  def __post_init__(self):
    if not self.pooling or not set(self.pooling) <= set(POOLING):
      raise ValueError(
        f"pooling: expected some of {', '.join(POOLING)}, got {self.pooling!r}"
      )
    if self.max_length < 0:
      raise ValueError(
        f"max_length: expected at least 0, got {self.max_length}"
      )


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
    head: the pooling.
    data: there is no way to train it yet.
    seed: not used.
  """
  del data, seed
  return Task(
    name="embedding",
    config=config,
    tokenizer=tokenizer,
    model=heads.EncoderModel(config),
    blank=rows.blank(),
    loss=loss,
    metrics=metrics,
    prepare=functools.partial(
      prepare, tokenizer, rows.max_length(config, head.max_length), head.prompt
    ),
    answer=functools.partial(answer, head),
    head=head,
  )


def prepare(
  tokenizer: Tokenizer | None, max_length: int, prompt: str, record: Record
) -> list[Batch]:
  """A text after the prompt, cut to the longest row.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    prompt: what the text is to begin with.
    record: `text`.

  Raises:
    UserError: the field is missing or no text, or there is no vocabulary.
  """
  tokenizer = fields.need_tokenizer(tokenizer)
  text = prompt + fields.text(record, "text")
  return [rows.example(rows.encode(tokenizer, max_length, text))]


@functools.partial(jax.jit, static_argnames="head")
def pool(
  hidden: Float[Array, "batch length hidden"],
  sequence_ids: Int[Array, "batch length"],
  head: Head,
) -> Float[Array, "batch width"]:
  """The vector of each row, padding left out; float32.

  The rules are those of sentence-transformers' modules Pooling and Normalize.
  """
  hidden = hidden.astype(jnp.float32)
  used = (sequence_ids > 0)[..., None]
  pooled = {
    "cls": lambda: hidden[:, 0],
    "max": lambda: jnp.where(used, hidden, -1e9).max(1),
    "mean": lambda: heads.mean_of_tokens(hidden, sequence_ids),
  }
  vectors = jnp.concatenate(
    [pooled[name]() for name in POOLING if name in head.pooling], axis=-1
  )
  if head.normalize:
    norms = jnp.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors /= jnp.maximum(norms, 1e-12)
  return vectors


def answer(
  head: Head,
  outputs: Float[Array, "batch length hidden"],
  batch: Batch,
  records: Sequence[Record],
) -> Sequence[np.ndarray]:
  """For each row its vector, float32."""
  return list(np.asarray(pool(outputs, batch.sequence_ids, head)))[
    : len(records)
  ]


def loss(
  outputs: Float[Array, "batch length hidden"], batch: Batch
) -> dict[str, Mean]:
  """Nothing: these vectors are not trained by themselves."""
  del outputs, batch
  return {}


def metrics(
  outputs: Float[Array, "batch length hidden"], batch: Batch
) -> dict[str, Mean]:
  """Nothing."""
  del outputs, batch
  return {}
