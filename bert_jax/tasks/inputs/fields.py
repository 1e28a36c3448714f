"""The fields of the records that tasks take, and the options of answers."""

import math
from collections.abc import Sequence
from typing import Any

from bert_jax.data.sources.labelled import Record
from bert_jax.settings import UserError
from bert_jax.text.tokenizer import check_text


def text(record: Record, name: str) -> str:
  """A field that must be a text.

  Raises:
    UserError: it is missing, or something else.
  """
  value = record.get(name)
  if not isinstance(value, str):
    raise _wrong(record, name, "a text")
  return value


def content(record: Record, name: str) -> str:
  """A field that must be a text, and not a blank one.

  Raises:
    UserError: it is missing, something else, or blank.
  """
  value = text(record, name)
  if not value.strip():
    raise UserError(f"the field {name!r} is empty; expected a text")
  return value


def texts(record: Record, name: str) -> list[str]:
  """A field that must be a list of at least one text.

  Raises:
    UserError: it is missing, empty, or something else.
  """
  values = record.get(name)
  if not isinstance(values, list | tuple) or not all(
    isinstance(value, str) for value in values
  ):
    raise _wrong(record, name, "a list of texts")
  if not values:
    raise UserError(f"the field {name!r} is empty; expected a list of texts")
  return list(values)


def label(value: Any) -> str:
  """A label as text, which files may hold as a number.

  A whole number has one name, whatever its type: 1, 1.0 and true are "1".

  Raises:
    UserError: it is neither, or missing.
  """
  # NaN is what pandas has for a missing value.
  if value is None or (isinstance(value, float) and math.isnan(value)):
    raise UserError("the record has no label")
  if isinstance(value, str) and value.strip():
    return check_text(value.strip(), "label")
  if isinstance(value, bool | int):
    return str(int(value))
  if isinstance(value, float) and value.is_integer():
    return str(int(value))
  raise UserError(f"the label {value!r:.60}: expected a name or a whole number")


def index(name: str, value: Any, labels: Sequence[str]) -> int:
  """The place of a label among the known ones.

  Args:
    name: the field or config key, for messages.
    value: the label.
    labels: the known ones.

  Raises:
    UserError: it is none of them.
  """
  found = label(value)
  if found not in labels:
    known = shorten(", ".join(labels), 200)
    raise UserError(
      f"{name}: unknown {found!r:.60}; known: {known} (the labels of the"
      " config, or else of the training records)"
    )
  return labels.index(found)


def shorten(value: str, length: int = 60) -> str:
  """The beginning of a text, for messages."""
  return value if len(value) <= length else value[: length - 3] + "..."


def at_least_one(name: str, value: Any) -> int:
  """An option that counts something, such as `top_k`.

  Raises:
    UserError: it is no whole number above 0.
  """
  if type(value) is not int or value < 1:
    raise UserError(f"{name}: expected a whole number above 0, got {value!r}")
  return value


def _wrong(record: Record, name: str, expected: str) -> UserError:
  return UserError(
    f"expected a record with the field {name!r}, {expected}; got"
    f" {dict(record)!r:.80}"
  )
