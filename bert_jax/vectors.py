"""Vectors of texts in fewer bits, as sentence-transformers quantizes them."""

import numpy as np
from jaxtyping import Float, Int, Integer

from bert_jax import settings
from bert_jax.settings import UserError

PRECISIONS = ("float32", "int8", "uint8", "binary", "ubinary")

Ranges = Float[np.ndarray, "2 width"]
"""The least and the greatest value of each dimension."""


def ranges(vectors: Float[np.ndarray, "texts width"]) -> Ranges:
  """The ranges of some vectors, for those of other texts.

  Raises:
    UserError: there are no vectors.
  """
  if not len(vectors):
    raise UserError("ranges: expected vectors, got none")
  return np.stack([vectors.min(0), vectors.max(0)])


def quantize(
  vectors: Float[np.ndarray, "*texts width"],
  precision: str,
  known: Ranges | None = None,
) -> Integer[np.ndarray, "*texts bytes"] | Float[np.ndarray, "*texts width"]:
  """Vectors in another precision.

  Values and layout are those of `quantize_embeddings` of sentence-transformers.

  Args:
    vectors: float32.
    precision: `int8` and `uint8` have 256 steps between the least and the
      greatest value of each dimension; `binary` and `ubinary` have a bit, 1
      above 0, eight of which are a byte, int8 or uint8.
    known: with `int8` and `uint8`, the ranges of the vectors of many texts,
      beyond which values are cut; by default those of these vectors.

  Raises:
    UserError: the precision is unknown, or ranges of another width.
  """
  settings.choice("precision", precision, dict.fromkeys(PRECISIONS))
  if precision == "float32":
    return vectors
  if precision.endswith("binary"):
    packed = np.packbits(vectors > 0, axis=-1)
    if precision == "ubinary":
      return packed
    return (packed.astype(np.int16) - 128).astype(np.int8)
  width = vectors.shape[-1]
  if known is None:
    known = ranges(vectors.reshape(-1, width))
  if known.shape != (2, width):
    raise UserError(
      f"ranges: expected the shape (2, {width}), got {known.shape}"
    )
  least, greatest = known
  step = np.maximum((greatest - least) / 255, 1e-12)
  steps = np.clip((vectors - least) / step, 0, 255)
  if precision == "uint8":
    return steps.astype(np.uint8)
  return (steps - 128).astype(np.int8)


def hamming_similarity(
  queries: Integer[np.ndarray, "queries bytes"],
  documents: Integer[np.ndarray, "documents bytes"],
) -> Int[np.ndarray, "queries documents"]:
  """The number of equal bits of binary vectors."""
  one, other = queries.view(np.uint8), documents.view(np.uint8)
  different = np.bitwise_count(one[:, None] ^ other[None])
  return 8 * one.shape[-1] - different.sum(-1, dtype=np.int64)
