"""Documents in files of a scratch folder, between two steps of preparation."""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Int64

from bert_jax.storage import folders, paths

_OPEN = 16  # Shards whose files are open at once.


def chosen_name(shard: int) -> str:
  """The name of the file with the indices of the documents that remain."""
  return f"{shard:05d}.chosen.npy"


@dataclasses.dataclass(frozen=True)
class Texts:
  """Documents in files of a folder, one file a shard; a source.

  Attributes:
    folder: the folder, local or in a store.
    sizes: the number of documents of each shard.
    chosen: whether the documents are those in the `.chosen.npy` of each shard.
  """

  folder: str
  sizes: tuple[int, ...]
  chosen: bool = False

  @functools.cached_property
  def _starts(self) -> list[int]:
    return list(itertools.accumulate(self.sizes, initial=0))

  @functools.cached_property
  def _shards(self) -> dict[int, "_Shard"]:
    return {}

  def __getstate__(self) -> dict[str, Any]:
    fields = [field.name for field in dataclasses.fields(self)]
    return {name: getattr(self, name) for name in fields}

  def __setstate__(self, state: Mapping[str, Any]) -> None:
    self.__dict__.update(state)

  def __len__(self) -> int:
    """The number of documents."""
    return self._starts[-1]

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    """A document as {"text", "replaced_bytes", "copies"}."""
    if not 0 <= index < len(self):
      raise IndexError(f"document {index} of {len(self)}")
    number = bisect.bisect_right(self._starts, index) - 1
    return self.shard(number)[index - self._starts[number]]

  def shard(self, number: int) -> "_Shard":
    """The documents of a shard."""
    if number not in self._shards:
      if len(self._shards) >= _OPEN:
        self._shards.clear()
      self._shards[number] = _Shard(self.folder, number, self.chosen)
    return self._shards[number]


class _Shard:
  """The documents of a shard, by random access."""

  def __init__(self, folder: str, number: int, chosen: bool):
    where = f"{folder}/{number:05d}"
    index = paths.local(f"{where}.index.npy")
    self._index = np.load(index, mmap_mode="r")
    self._chosen: Int64[np.ndarray, "n"] = np.arange(len(self._index))
    if chosen:
      self._chosen = np.load(
        paths.local(f"{folder}/{chosen_name(number)}"), mmap_mode="r"
      )
    self._file = paths.local(f"{where}.text").open("rb")

  def __len__(self) -> int:
    return len(self._chosen)

  def __getitem__(self, index: int) -> dict[str, Any]:
    start, end, replaced, copies = self._index[self._chosen[index]].tolist()
    self._file.seek(start)
    text = self._file.read(end - start).decode()
    return {"text": text, "replaced_bytes": replaced, "copies": copies}


def write(
  records: Iterator[Mapping[str, Any]],
  shard: int,
  scratch: paths.Path,
  folder: str,
) -> int:
  """Writes the documents of a shard; returns their number."""
  index, end = [], 0
  with folders.staging(folder, scratch) as staged:
    with (staged / f"{shard:05d}.text").open("wb") as file:
      for record in records:
        data = record["text"].encode()
        file.write(data)
        copies = record.get("copies", 1)
        index.append((end, end + len(data), record["replaced_bytes"], copies))
        end += len(data)
    table = np.array(index, np.int64).reshape(-1, 4)
    np.save(staged / f"{shard:05d}.index.npy", table)
  return len(index)
