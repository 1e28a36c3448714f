"""Things of several owners end to end, told by how many each owner has."""

import numpy as np
from jaxtyping import Int, Int64


def within(counts: Int[np.ndarray, "owners"]) -> Int64[np.ndarray, "things"]:
  """The number of each thing among its owner's, from 0."""
  counts = counts.astype(np.int64)
  return np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
