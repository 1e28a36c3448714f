"""Parameters with one row for each token, and the rows that pad them."""

import re
from typing import Any

import jax
import numpy as np

_PARAMETERS = re.compile(
  # Where several tasks share an encoder, heads lie under their task's name.
  r"encoder/embeddings/word/embedding|([^/]+/)?masked_lm/(bias|decoder)"
)


def has_rows(path: str) -> bool:
  """Whether the parameter of a path has one row for each token."""
  return _PARAMETERS.fullmatch(path) is not None


def with_rows(path: str, leaf: Any, rows: int) -> Any:
  """A parameter, or its shape struct, with this many rows for tokens.

  Rows are removed at the end, or zeros added there. Parameters without such
  rows are returned as they are.
  """
  if not has_rows(path) or leaf.shape[0] == rows:
    return leaf
  if isinstance(leaf, jax.ShapeDtypeStruct):
    return jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype)
  array = np.asarray(leaf)[:rows]
  more = [(0, rows - len(array)), *[(0, 0)] * (array.ndim - 1)]
  return np.pad(array, more) if len(array) < rows else array
