"""The fields of the records that tasks take."""

from bert_jax.settings import UserError
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Record


def text(record: Record, name: str) -> str:
  """A field that must be a text.

  Raises:
    UserError: it is missing, or something else.
  """
  value = record.get(name)
  if not isinstance(value, str):
    raise UserError(
      f"expected a record with the field {name!r}, a text; got"
      f" {dict(record)!r:.80}"
    )
  return value


def shorten(value: str, length: int = 60) -> str:
  """The beginning of a text, for messages."""
  return value if len(value) <= length else value[: length - 3] + "..."


def need_tokenizer(tokenizer: Tokenizer | None) -> Tokenizer:
  """The tokenizer, where there is one.

  Raises:
    UserError: the model came without a vocabulary.
  """
  if tokenizer is None:
    raise UserError(
      "this model came without a vocabulary; for a run on ready-made records,"
      " name its folder as config.data.tokenizer"
    )
  return tokenizer
