"""A question and the context that may answer it, as rows."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int

from bert_jax.data.sources import squad
from bert_jax.data.sources.labelled import Record, RefusedError
from bert_jax.settings import UserError
from bert_jax.tasks.common import fields, rows
from bert_jax.text.tokenizer import Encoding, Tokenizer
from bert_jax.types import Batch

MAX_QUESTION = 64
"""Tokens of a question, as in google-research/bert's run_squad.py."""


def prepare(
  tokenizer: Tokenizer | None,
  max_length: int,
  stride: int,
  record: Record,
  max_question: int = MAX_QUESTION,
) -> list[Batch]:
  """A question and its context, in windows where that is long.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    stride: tokens that a window shares with the one before.
    record: `question` and `context`, and the gold `answers`, if any, each
      with its `text` and its `start`; an empty list where there is none.
    max_question: tokens that a question is cut to; it never takes more than
      half of a row.

  Returns:
    Unbatched examples with the targets `starts` and `ends`, int32 [length],
    the characters of each token, and `in_context`, bool [length]; and where
    the record has `answers`, with those of the loss.

  Raises:
    UserError: a field is missing, no text or blank, an answer is not where
      it is said to be, there is no room for the context, or there is no
      vocabulary.
  """
  tokenizer = fields.need_tokenizer(tokenizer)
  question = fields.content(record, "question")
  context = fields.content(record, "context")
  encoding = _cut_question(
    tokenizer.encode(question, context), tokenizer, max_question, max_length
  )
  places = rows.pieces(encoding, tokenizer.special)
  gold = _gold(record, encoding, places) if "answers" in record else None
  examples = []
  for cut in rows.windowed(encoding, tokenizer.special, max_length, stride):
    offsets = np.array(cut.encoding.offsets, np.int32)
    in_context = np.zeros(len(offsets), bool)
    in_context[places.start : -1] = True
    targets = {
      "starts": offsets[:, 0],
      "ends": offsets[:, 1],
      "in_context": in_context,
    }
    if gold is not None:
      targets |= _positions(gold, cut.shift, in_context)
    examples.append(rows.example(cut.encoding, targets))
  return examples


def _cut_question(
  encoding: Encoding, tokenizer: Tokenizer, wanted: int, max_length: int
) -> Encoding:
  """Cuts tokens off the end of a question that is too long."""
  places = rows.pieces(encoding, tokenizer.special)
  end = encoding.ids.index(tokenizer.special.sep)
  framing = places.start - (end - 1)
  limit = max(min(wanted, max_length // 2 - framing), 1)
  if end - 1 <= limit:
    return encoding
  return Encoding(*(part[: 1 + limit] + part[end:] for part in encoding))


def _gold(
  record: Record, encoding: Encoding, places: Sequence[int]
) -> Int[np.ndarray, " tokens"]:
  """The places of the first answer's tokens, of which it may be but a part.

  Where there is no answer it is that of `[CLS]`.
  """
  try:
    answers = squad.answers(record["answers"], record["context"])
  except RefusedError as error:
    raise UserError(str(error)) from None
  if not answers:
    return np.zeros(1, np.int64)
  start, end = _within_spaces(answers[0])
  offsets = np.array(encoding.offsets).reshape(-1, 2)[places]
  hit = (offsets[:, 1] > start) & (offsets[:, 0] < end)
  found = np.flatnonzero(hit) + places[0] if hit.any() else np.zeros(0, int)
  if not found.size:
    raise UserError(
      f"the answer {fields.shorten(answers[0]['text'])!r} at character"
      f" {start} of the context has no tokens"
    )
  return found


def _within_spaces(answer: Mapping[str, Any]) -> tuple[int, int]:
  """The characters of an answer, without spaces around it."""
  # A piece may stand for the space before it, which does not make it part of
  # an answer that ends with one.
  text = answer["text"]
  start = answer["start"] + len(text) - len(text.lstrip())
  return start, start + len(text.strip())


def _positions(
  gold: Int[np.ndarray, " tokens"], shift: int, in_context: np.ndarray
) -> dict[str, np.ndarray]:
  """The targets of the loss in a window, that of `[CLS]` if it cuts them."""
  first, last = gold[0] - shift, gold[-1] - shift
  seen = first > 0 and last < len(in_context)
  if not (seen and in_context[first] and in_context[last]):
    first = last = 0
  return {
    "start_positions": np.array(first, np.int32),
    "end_positions": np.array(last, np.int32),
    "position_weights": np.ones((), np.float32),
  }
