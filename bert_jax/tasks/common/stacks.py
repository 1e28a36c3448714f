"""Several texts as one example, whose id arrays are [texts, length]."""

from collections.abc import Mapping, Sequence

import numpy as np

from bert_jax.tasks.common import rows
from bert_jax.text.tokenizer import Encoding
from bert_jax.types import Batch


def example(
  encodings: Sequence[Encoding],
  targets: Mapping[str, np.ndarray] | None = None,
  texts: int = 0,
) -> Batch:
  """One unbatched example, padded to its longest text.

  Args:
    encodings: of the texts, at least one.
    targets: of the example.
    texts: blank ones are added up to so many, as all training examples are to
      be of one shape but for their length.
  """
  made = [rows.example(encoding) for encoding in encodings]
  shape = (
    max(texts, len(made)),
    max(row.token_ids.size for row in made),
  )

  def stack(name: str) -> np.ndarray:
    stacked = np.zeros(shape, np.int32)
    for text, row in zip(stacked, made):
      ids = getattr(row, name)
      text[: ids.size] = ids
    return stacked

  return Batch(
    token_ids=stack("token_ids"),
    segment_ids=stack("segment_ids"),
    position_ids=stack("position_ids"),
    sequence_ids=stack("sequence_ids"),
    targets=dict(targets or {}),
  )
