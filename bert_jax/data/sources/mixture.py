"""Documents of several sources, in proportion to weights."""

import bisect
import dataclasses
import functools
import itertools
import pathlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Int64

from bert_jax.data import counter_rng

MOST_COPIES = 1000


@dataclasses.dataclass(frozen=True)
class Part:
  """A source of a mixture.

  Attributes:
    name: its name.
    source: its documents, a `Source`.
    weight: how many times each document is used, above 0.
    scratch: the folder of the files that it reads, if any.
  """

  name: str
  source: Any
  weight: float
  scratch: pathlib.Path

  def copies(self, documents: Int[np.ndarray, "n"]) -> Int64[np.ndarray, "n"]:
    """How many times each of some documents is used.

    A weight that is no integer is rounded up or down by a hash of the name and
    the document, so that it is met on average.
    """
    whole = int(self.weight)
    key = counter_rng.key(zlib.crc32(self.name.encode()))
    more = counter_rng.uniform(key, documents) < self.weight - whole
    return whole + more.astype(np.int64)

  @functools.cached_property
  def used(self) -> Int64[np.ndarray, "n"] | range:
    """The indices of the documents that are used."""
    size = len(self.source)
    if self.weight >= 1:
      return range(size)
    return np.flatnonzero(self.copies(np.arange(size)))

  def __getstate__(self) -> dict[str, Any]:
    # Without `used`, which takes less time than to be sent.
    return {x.name: getattr(self, x.name) for x in dataclasses.fields(self)}

  def __setstate__(self, state: Mapping[str, Any]) -> None:
    self.__dict__.update(state)


@dataclasses.dataclass(frozen=True)
class Mixture:
  """The documents of all parts, one part after the other.

  A document has also `copies`, the number of times that it is used, and `part`,
  the name of its part.
  """

  parts: Sequence[Part]

  @functools.cached_property
  def _starts(self) -> list[int]:
    sizes = (len(part.used) for part in self.parts)
    return list(itertools.accumulate(sizes, initial=0))

  def __len__(self) -> int:
    """The number of documents, without their copies."""
    return self._starts[-1]

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    """A document of a part."""
    if not 0 <= index < len(self):
      raise IndexError(f"document {index} of {len(self)}")
    number = bisect.bisect_right(self._starts, index) - 1
    part = self.parts[number]
    document = int(part.used[index - self._starts[number]])
    copies = int(part.copies(np.array([document]))[0])
    return {**part.source[document], "copies": copies, "part": part.name}

  def with_sources(self, changed: Iterable[Any]) -> "Mixture":
    """The same mixture with other sources of the same documents."""
    return Mixture(
      [
        dataclasses.replace(part, source=source)
        for part, source in zip(self.parts, changed)
      ]
    )
