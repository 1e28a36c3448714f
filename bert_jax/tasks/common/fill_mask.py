"""Words for the masked places of a text, by a masked language model."""

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from bert_jax.data.sources.labelled import Record
from bert_jax.models import heads
from bert_jax.settings import UserError
from bert_jax.tasks.common import fields
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class Candidate:
  """One word for a masked place.

  Attributes:
    token: the word or piece, as `Tokenizer.decode` writes it.
    probability: the model's, from 0 to 1.
  """

  token: str
  probability: float


def prepare(
  tokenizer: Tokenizer | None, max_positions: int, record: Record
) -> list[Batch]:
  """A text in which the mask token stands for the words to be filled in.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_positions: the longest sequence that the model takes.
    record: `text`, in which the mask token (`[MASK]`) is that token, and all
      else is text.

  Returns:
    One unbatched example, as long as the text.

  Raises:
    UserError: there is no mask, or the text is too long, or the model has no
      vocabulary.
  """
  tokenizer = fields.need_tokenizer(tokenizer)
  mask = tokenizer.token(tokenizer.special.mask)
  text = fields.text(record, "text")
  encoding = tokenizer.encode_masked(text)
  ids = np.array(encoding.ids, np.int32)
  positions = np.flatnonzero(ids == tokenizer.special.mask)
  if not len(positions):
    raise UserError(f"no {mask} in the text {fields.shorten(text)!r}")
  if len(ids) > max_positions:
    raise UserError(
      f"the text {fields.shorten(text)!r} has {len(ids)} tokens; the model"
      f" takes at most {max_positions}"
    )
  length = len(ids)
  example = Batch(
    token_ids=ids,
    segment_ids=np.zeros(length, np.int32),
    position_ids=np.arange(length, dtype=np.int32),
    sequence_ids=np.ones(length, np.int32),
    targets={
      "masked_positions": positions.astype(np.int32),
      "masked_weights": np.ones(len(positions), np.float32),
    },
  )
  return [example]


def answer(
  tokenizer: Tokenizer,
  outputs: heads.PretrainingOutputs,
  batch: Batch,
  records: Sequence[Record],
  top_k: int = 5,
) -> Sequence[list[list[Candidate]]]:
  """The likeliest words: for each row, for each of its masks, `top_k`."""
  # Rows that only pad the word embedding stand for no token.
  logits = outputs.masked_lm[..., : len(tokenizer)]
  probabilities, ids = jax.lax.top_k(
    jax.nn.softmax(logits, axis=-1), min(top_k, len(tokenizer))
  )
  probabilities, ids = np.asarray(probabilities), np.asarray(ids)
  used = np.asarray(batch.targets["masked_weights"]) > 0
  return [
    [
      [
        Candidate(_word(tokenizer, int(id)), float(probability))
        for id, probability in zip(ids[row, slot], probabilities[row, slot])
      ]
      for slot in np.flatnonzero(used[row])
    ]
    for row in range(len(records))
  ]


def _word(tokenizer: Tokenizer, id: int) -> str:
  """A token by itself; one that stands for no text has its own name."""
  return tokenizer.decode([id]).strip() or tokenizer.token(id)
