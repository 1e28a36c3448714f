"""A question, and the context that may answer it."""

import dataclasses
from typing import ClassVar

import numpy as np

from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks.inputs import fields, rows
from bert_jax.tasks.inputs.inputs import Inputs
from bert_jax.tasks.inputs.rows import Row
from bert_jax.text.tokenizer import Encoding, Tokenizer, text_ranges


@dataclasses.dataclass(frozen=True)
class QuestionContext(Inputs):
  """A question and a context, in chunks where the context is long.

  The fields are `question`, `context` and maybe `id`. The arrays of an
  example, one entry a token:

    inputs/starts: int32, the token's first character in its text.
    inputs/ends: int32, one past its last.
    inputs/in_context: bool, whether the token is of the context.

  Attributes:
    max_length: the longest row in tokens, question and special tokens
      included, if the encoder takes it.
    stride: the tokens that a chunk shares with the one before, as in
      Transformers; at most half of a chunk's tokens.
    max_question: tokens that a longer question is truncated to, as in
      google-research/bert's run_squad.py; never more than half of a row.
  """

  max_length: int = 384
  stride: int = rows.STRIDE
  max_question: int = 64

  FIELDS = ("id", "question", "context")
  OPTIONAL = ("id",)
  GROUP = "context"
  ARRAYS: ClassVar = {"starts": np.int32, "ends": np.int32, "in_context": bool}

  def __post_init__(self):
    for name, least in (("max_length", 1), ("stride", 0), ("max_question", 1)):
      if getattr(self, name) < least:
        raise ValueError(
          f"{name}: expected at least {least}, got {getattr(self, name)}"
        )

  def rows(
    self, record: Record, tokenizer: Tokenizer, config: EncoderConfig
  ) -> list[Row]:
    """One row a chunk of the context."""
    limit = self.limit(config)
    question = fields.content(record, "question")
    context = fields.content(record, "context")
    whole = _truncate_question(
      tokenizer.encode(question, context), tokenizer, self.max_question, limit
    )
    places = rows.pieces(whole, tokenizer.special)
    made = []
    for chunk in rows.chunks(whole, tokenizer.special, limit, self.stride):
      context = range(places.start, len(chunk.encoding.ids) - 1)
      example = rows.example_with_offsets(chunk.encoding, "in_context", context)
      made.append(Row(example, whole, places, chunk.shift))
    return made


def _truncate_question(
  encoding: Encoding, tokenizer: Tokenizer, wanted: int, max_length: int
) -> Encoding:
  """Cuts tokens off the end of a question that is too long."""
  question, places = text_ranges(encoding, tokenizer.special)
  end = question.stop
  framing = places.start - (end - 1)
  limit = max(min(wanted, max_length // 2 - framing), 1)
  if end - 1 <= limit:
    return encoding
  return Encoding(*(part[: 1 + limit] + part[end:] for part in encoding))
