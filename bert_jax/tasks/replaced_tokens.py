"""Which tokens of a text were replaced: ELECTRA's discriminator.

Clark et al. 2020, arXiv:2003.10555. The targets of a batch:

  replaced: float32 [batch, length], 1 where a token was replaced.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.models import heads
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.common import fields, losses, rows
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean

_AXES = grouping.Axes(per_token=frozenset({"starts", "ends", "answered"}))


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
    name="replaced_tokens",
    config=config,
    tokenizer=tokenizer,
    model=heads.TokenClassifier(config, 1, has_transform=True),
    blank=rows.blank({"replaced": np.zeros(4, np.float32)}),
    loss=loss,
    metrics=metrics,
    prepare=functools.partial(prepare, tokenizer, rows.max_length(config)),
    answer=functools.partial(answer, tokenizer),
    join=lambda answers: list(itertools.chain.from_iterable(answers)),
    axes=_AXES,
  )


def prepare(
  tokenizer: Tokenizer | None, max_length: int, record: Record
) -> list[Batch]:
  """A text, in windows where it is longer than the longest row.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    record: `text`.

  Returns:
    Unbatched examples with the targets `starts` and `ends`, int32 [length],
    the characters of each token, and `answered`, bool [length], whether the
    window is the one to answer for it.

  Raises:
    UserError: the field is missing or no text, or there is no vocabulary.
  """
  tokenizer = fields.need_tokenizer(tokenizer)
  encoding = tokenizer.encode(fields.text(record, "text"))
  examples = []
  for cut in rows.windowed(encoding, tokenizer.special, max_length):
    offsets = np.array(cut.encoding.offsets, np.int32)
    answered = np.zeros(len(offsets), bool)
    answered[cut.own.start : cut.own.stop] = True
    targets = {
      "starts": offsets[:, 0],
      "ends": offsets[:, 1],
      "answered": answered,
    }
    examples.append(rows.example(cut.encoding, targets))
  return examples


def answer(
  tokenizer: Tokenizer,
  outputs: Float[Array, "batch length 1"],
  batch: Batch,
  records: Sequence[Record],
) -> Sequence[list[Token]]:
  """For each row its tokens, each with how likely it was replaced."""
  probabilities = np.asarray(jax.nn.sigmoid(outputs[..., 0]))
  ids = np.asarray(batch.token_ids)
  starts, ends, answered = (
    np.asarray(batch.targets[name]) for name in ("starts", "ends", "answered")
  )
  answers = []
  for row in range(len(records)):
    own = answered[row]
    columns = (x[row, own].tolist() for x in (ids, starts, ends, probabilities))
    answers.append(
      [Token(tokenizer.token(id), *found) for id, *found in zip(*columns)]
    )
  return answers


def loss(
  outputs: Float[Array, "batch length 1"], batch: Batch
) -> dict[str, Mean]:
  """Binary cross-entropy of all tokens but padding, in nats.

  Special tokens count too, as in `ElectraForPreTraining` of Transformers.
  """
  values = losses.binary_cross_entropy(
    outputs[..., 0], batch.targets["replaced"]
  )
  return {"replaced_loss": losses.mean(values, _used(batch))}


def metrics(
  outputs: Float[Array, "batch length 1"], batch: Batch
) -> dict[str, Mean]:
  """The share of tokens that the model gets right."""
  right = (outputs[..., 0] > 0) == (batch.targets["replaced"] > 0)
  return {"replaced_accuracy": losses.mean(right, _used(batch))}


def _used(batch: Batch) -> Float[Array, "batch length"]:
  return (batch.sequence_ids > 0).astype(jnp.float32)
