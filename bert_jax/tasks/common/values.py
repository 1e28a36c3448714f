"""The gold values in the records of a regression."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from bert_jax.data.sources.labelled import Record
from bert_jax.settings import UserError

# Training is done in float32.
_LARGEST = float(np.finfo(np.float32).max)


def of(names: Sequence[str], record: Record) -> list[float]:
  """A record's values, one for each name.

  Args:
    names: of the values.
    record: the list `values`, or a single one as `label`; numbers, or texts
      that are.

  Raises:
    UserError: there are not as many, or one is no number.
  """
  found = all_of(record)
  if len(found) != len(names):
    raise UserError(
      f"expected {len(names)} values ({', '.join(names):.60}), got {len(found)}"
    )
  return found


def all_of(record: Record) -> list[float]:
  """A record's values, however many, but at least one.

  Raises:
    UserError: there are none, or one is no number.
  """
  name = "values" if "values" in record else "label"
  if name not in record:
    raise UserError("expected the field 'values', or 'label' with one number")
  given = record[name]
  if name == "label":
    return [_number(name, given)]
  if not isinstance(given, list | tuple) or not given:
    raise UserError(
      f"the field 'values': expected a list of numbers, got {given!r:.60}"
    )
  return [_number(name, value) for value in given]


def _number(name: str, value: Any) -> float:
  try:
    number = math.nan if isinstance(value, bool) else float(value)
  except (TypeError, ValueError, OverflowError):
    number = math.nan
  # NaN is not either.
  if not abs(number) <= _LARGEST:
    raise UserError(f"the field {name!r}: expected a number, got {value!r:.60}")
  return number
