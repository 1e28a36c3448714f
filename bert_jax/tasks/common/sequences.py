"""What the tasks about a whole text, or a pair of texts, have in common."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Array, Float

from bert_jax.data.sources.labelled import Record
from bert_jax.tasks.common import fields, rows
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch


def one_each(
  name: str, values: Sequence[float], labels: Sequence[str], default: float
) -> tuple[float, ...]:
  """Values for labels, by default all the same.

  Raises:
    ValueError: there are not as many of both, or one is no finite number.
  """
  values = tuple(values) or (default,) * len(labels)
  if len(values) != len(labels):
    raise ValueError(
      f"{name}: expected {len(labels)}, one a label, got {len(values)}"
    )
  if not np.isfinite(values).all():
    raise ValueError(f"{name}: expected finite numbers, got {list(values)}")
  return values


def prepare(
  tokenizer: Tokenizer | None,
  max_length: int,
  record: Record,
  targets: Mapping[str, np.ndarray],
) -> list[Batch]:
  """A text or a pair of texts, cut to the longest row.

  Args:
    tokenizer: the tokenizer that the model was trained with.
    max_length: the longest row.
    record: `text`, `pair` where there are two, and gold fields if any: then
      the text must not be blank, for it has nothing to learn from.
    targets: made of the gold fields.

  Raises:
    UserError: a field is missing or no text, or there is no vocabulary.
  """
  tokenizer = fields.need_tokenizer(tokenizer)
  text = (fields.content if targets else fields.text)(record, "text")
  encoding = rows.encode(tokenizer, max_length, text, fields.pair(record))
  return [rows.example(encoding, targets)]


def ranked(
  probabilities: Float[Array, "batch labels"],
  rows_used: int,
  top_k: int | None,
) -> list[list[tuple[int, float]]]:
  """For each row its labels' places and probabilities, the likeliest first.

  Args:
    probabilities: of the labels.
    rows_used: how many rows there are; further ones only pad.
    top_k: how many labels; None for all.

  Raises:
    UserError: `top_k` is no whole number above 0.
  """
  count = probabilities.shape[-1]
  if top_k is not None:
    count = min(fields.at_least_one("top_k", top_k), count)
  values, ids = map(np.asarray, jax.lax.top_k(probabilities, count))
  pairs = zip(ids[:rows_used].tolist(), values[:rows_used].tolist())
  return [list(zip(*pair)) for pair in pairs]
