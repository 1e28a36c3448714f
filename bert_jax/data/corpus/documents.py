"""A document of a corpus, as its sentences."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int32


class Document(Sequence):
  """Sentences, cut out of a document's ids when they are asked for."""

  def __init__(
    self,
    ids: Int32[np.ndarray, "tokens"],
    lengths: Int[np.ndarray, "sentences"],
  ):
    """Takes the ids of all sentences end to end, and their lengths."""
    self._ids = ids
    self._bounds = [0, *np.cumsum(lengths).tolist()]

  def __len__(self) -> int:
    """The number of sentences."""
    return len(self._bounds) - 1

  def __getitem__(
    self, index: int | slice
  ) -> Int32[np.ndarray, "tokens"] | list[Int32[np.ndarray, "tokens"]]:
    """A sentence, or some of them."""
    found = range(len(self))[index]
    if isinstance(index, slice):
      return [self[i] for i in found]
    return self._ids[self._bounds[found] : self._bounds[found + 1]]
