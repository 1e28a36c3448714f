"""A vector for a text, as sentence-transformers makes it from an encoder.

A record with `text` alone makes a row of tokens; one with a `pair`, and maybe
a `negative`, a row of two or three texts, so that the id arrays of a batch are
[batch, texts, length]. The targets of such batches:

  pair_weights: float32 [batch], 0 where a row counts nothing.
  similarities: float32 [batch], what the cosine of text and pair is to be;
    with the objective `similarity` only.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from bert_jax.data.sources.labelled import Record
from bert_jax.models import heads, pooling
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import supervised
from bert_jax.tasks.common import fields, pairs, rows, similarity, stacks
from bert_jax.tasks.supervised import load_tokenizer
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean

__all__ = ["Data", "Head", "load_tokenizer", "make"]

POOLING = ("cls", "max", "mean")
"""In the order in which several are concatenated."""

FIELDS = supervised.Fields(
  ("text", "pair", "label", "negative"), optional=("label", "negative")
)

OBJECTIVES: Mapping[str, supervised.Fields] = {
  "contrastive": supervised.Fields(
    ("text", "pair", "negative"), optional=("negative",)
  ),
  "similarity": supervised.Fields(("text", "pair", "label")),
}
"""The fields of the records that each is learned from."""


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
    supervised.check_max_length(self.max_length)


@dataclasses.dataclass(frozen=True)
class Data(supervised.Data):
  """The section `config.data`: records with `text` and `pair`.

  Besides these, the fields of `supervised.Data`.

  Attributes:
    objective: `contrastive`: text and pair belong together, the pairs of other
      rows of the micro-batch do not (so `config.accumulation` leaves each
      fewer to be told from), nor does `negative`, where records have one.
      `similarity`: the number `label` says how much text and pair are alike.
    pooling: see `Head`; by default that of the model to go on from, and
      `mean` where it is for another task.
    scale: contrastive: what cosines are multiplied by before the softmax, 1 by
      the temperature.
    symmetric: contrastive: whether texts are to be told by their pairs too.
    label_range: similarity: the labels that stand for a cosine of 0 and of 1;
      by default the least and the greatest in the records.
  """

  objective: str = "contrastive"
  pooling: tuple[str, ...] = ()
  scale: float = 20.0
  symmetric: bool = False
  label_range: tuple[float, ...] = ()

  def __post_init__(self):
    super().__post_init__()
    if self.objective not in OBJECTIVES:
      known = " or ".join(OBJECTIVES)
      raise ValueError(f"objective: expected {known}, got {self.objective!r}")
    if self.pooling:
      Head(self.pooling)
    if not self.scale > 0:
      raise ValueError(f"scale: expected more than 0, got {self.scale}")
    if self.label_range and not (
      len(self.label_range) == 2 and self.label_range[0] < self.label_range[1]
    ):
      raise ValueError(
        "label_range: expected the least and the greatest label, got"
        f" {list(self.label_range)}"
      )


def make(
  config: EncoderConfig,
  tokenizer: Tokenizer | None,
  head: Head | None = None,
  data: Data | None = None,
  seed: int = 0,
) -> Task:
  """Makes the task.

  Args:
    config: the encoder's.
    tokenizer: None where only ids go in.
    head: the pooling; with data, that of the model to go on from.
    data: what to learn from; None to predict only.
    seed: not used.

  Raises:
    UserError: the data cannot be read, or are not for this task.
  """
  del seed
  head = head or Head()
  labelled = data and supervised.read(data, OBJECTIVES[data.objective])
  span, texts, targets = None, 2, {"pair_weights": np.zeros((), np.float32)}
  if labelled:
    head = dataclasses.replace(
      head,
      pooling=data.pooling or head.pooling,
      max_length=rows.max_length(config, data.max_length),
    )
    texts += bool(labelled.values("negative"))
    if data.objective == "similarity":
      span = data.label_range or pairs.label_range(labelled)
      targets["similarities"] = np.zeros((), np.float32)
  longest = rows.max_length(config, head.max_length)
  task = Task(
    name="embedding",
    config=config,
    tokenizer=tokenizer,
    model=heads.EncoderModel(config),
    blank=rows.blank(targets, (texts, 4)) if data else rows.blank(),
    loss=functools.partial(loss, head, data),
    metrics=functools.partial(metrics, head, data),
    prepare=functools.partial(
      prepare, tokenizer, longest, head.prompt, span, texts
    ),
    answer=functools.partial(answer, head),
    score=pairs.score,
    baselines=pairs.baselines,
    head=head,
  )
  return supervised.with_data(task, data, labelled, longest)


def prepare(
  tokenizer: Tokenizer | None,
  max_length: int,
  prompt: str,
  label_range: tuple[float, float] | None,
  texts: int,
  record: Record,
) -> list[Batch]:
  """A text, or several, after the prompt and cut to the longest row.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    prompt: what each text is to begin with.
    label_range: the labels that stand for a cosine of 0 and of 1; None where
      labels are not learned from.
    texts: of a row with a pair, at least; blank ones are added.
    record: `text`; for training also `pair`, and `negative` and `label` where
      there are any.

  Raises:
    UserError: a field is missing, no text or, of a pair, empty; the label is
      not within its range; or there is no vocabulary.
  """
  tokenizer = fields.need_tokenizer(tokenizer)
  if record.get("pair") is None and record.get("negative") is None:
    text = prompt + fields.text(record, "text")
    return [rows.example(rows.encode(tokenizer, max_length, text))]
  names = ["text", "pair"]
  if record.get("negative") is not None:
    names.append("negative")
  encodings = [
    rows.encode(tokenizer, max_length, prompt + fields.content(record, name))
    for name in names
  ]
  targets = {"pair_weights": np.ones((), np.float32)}
  if label_range is not None:
    (low, high), label = label_range, pairs.label(record)
    if not low <= label <= high:
      raise UserError(
        f"the label {label:g}: expected config.data.label_range, {low:g} to"
        f" {high:g}"
      )
    targets["similarities"] = np.float32((label - low) / (high - low))
  return [stacks.example(encodings, targets, texts)]


@functools.partial(jax.jit, static_argnames="head")
def pool(
  hidden: Float[Array, "*rows length hidden"],
  sequence_ids: Int[Array, "*rows length"],
  head: Head,
) -> Float[Array, "*rows width"]:
  """The vector of each row, padding left out; float32.

  The rules are those of sentence-transformers' modules Pooling and Normalize.
  """
  hidden = hidden.astype(jnp.float32)
  used = (sequence_ids > 0)[..., None]
  pooled = {
    "cls": lambda: hidden[..., 0, :],
    "max": lambda: jnp.where(used, hidden, -1e9).max(-2),
    "mean": lambda: pooling.mean_of_tokens(hidden, sequence_ids),
  }
  vectors = jnp.concatenate(
    [pooled[name]() for name in POOLING if name in head.pooling], axis=-1
  )
  return similarity.unit(vectors) if head.normalize else vectors


def answer(
  head: Head,
  outputs: Float[Array, "batch *texts length hidden"],
  batch: Batch,
  records: Sequence[Record],
) -> Sequence[np.ndarray]:
  """For each row its vector, or with a pair that of each text; float32."""
  vectors = np.asarray(pool(outputs, batch.sequence_ids, head))[: len(records)]
  if vectors.ndim == 2:
    return list(vectors)
  texts = np.asarray(batch.sequence_ids).any(-1).sum(-1)
  return [row[:count] for row, count in zip(vectors, texts)]


def loss(
  head: Head,
  data: Data | None,
  outputs: Float[Array, "batch *texts length hidden"],
  batch: Batch,
) -> dict[str, Mean]:
  """That of the objective, see `similarity`; without data there is none."""
  return _learned(head, data, outputs, batch)[0]


def metrics(
  head: Head,
  data: Data | None,
  outputs: Float[Array, "batch *texts length hidden"],
  batch: Batch,
) -> dict[str, Mean]:
  """The share of pairs that are told from all others of their batch."""
  return _learned(head, data, outputs, batch)[1]


def _learned(
  head: Head, data: Data | None, outputs: Array, batch: Batch
) -> tuple[dict[str, Mean], dict[str, Mean]]:
  """The losses and the metrics."""
  if data is None:
    return {}, {}
  vectors = pool(outputs, batch.sequence_ids, head)
  weights = batch.targets["pair_weights"]
  if data.objective == "similarity":
    similarities = batch.targets["similarities"]
    return similarity.regression(vectors, similarities, weights), {}
  return similarity.ranking(
    vectors, batch.token_ids, weights, data.scale, data.symmetric
  )
