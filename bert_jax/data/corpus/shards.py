"""Tokenized documents on disk: ArrayRecord shards with a NumPy index.

A corpus is a folder with the files

  corpus.json              settings, counts, sizes and SHA-256 of the other
                           files; written last
  vocab.txt, ...           the tokenizer, as `bert_jax.text.load` reads it
  train-00000-of-00016.array_record, ...
  train.sentence_lengths.npy, train.document_starts.npy
  eval-...                 the same for the eval split

A record is a document, with little-endian integers: the number of sentences
(uint32), their lengths in tokens (uint32 each), and the token ids of all
sentences (uint16 if the vocabulary has at most 65,536 tokens, else uint32). In
format 2 an id is stored as 2 * id, plus 1 for a token that continues a word
found by `config.corpus.words`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Int64, UInt32

from bert_jax.settings import UserError
from bert_jax.storage import paths

FORMAT = 1
FORMAT_WITH_WORDS = 2
"""The format of a corpus with `config.corpus.words`."""
MANIFEST = "corpus.json"
SPLITS = ("train", "eval")

# With one record per group a document is read alone. Ids of two bytes hardly
# compress, and compression would take longer than tokenization.
_WRITER_OPTIONS = "group_size:1,uncompressed"


def id_dtype(vocabulary_size: int, marks_words: bool = False) -> np.dtype:
  """The dtype of stored ids."""
  different = vocabulary_size << marks_words
  return np.dtype("<u2" if different <= 1 << 16 else "<u4")


def shard_name(split: str, shard: int, shards: int) -> str:
  """The file name of a shard."""
  return f"{split}-{shard:05d}-of-{shards:05d}.array_record"


def index_names(split: str) -> tuple[str, str]:
  """The file names of a split's sentence lengths and document starts."""
  return f"{split}.sentence_lengths.npy", f"{split}.document_starts.npy"


class ShardWriter:
  """Writes a shard of documents, and its part of the index.

  A full disk or another error in writing is a `UserError`.
  """

  def __init__(
    self, path: pathlib.Path, vocabulary_size: int, marks_words: bool = False
  ):
    """Opens a shard for writing ids less than `vocabulary_size`.

    With `marks_words` ids are written with the marks of `Corpus`.
    """
    from array_record.python import array_record_module  # Slow to import.

    self.path = path
    self._dtype = id_dtype(vocabulary_size, marks_words)
    self._marks_words = marks_words
    self._writer = array_record_module.ArrayRecordWriter(
      str(path), _WRITER_OPTIONS
    )
    self._lengths: list[UInt32[np.ndarray, "sentences"]] = []

  def write(
    self, ids: Int[np.ndarray, "tokens"], lengths: Int[np.ndarray, "sentences"]
  ) -> None:
    """Appends a document: the ids and the lengths of its sentences."""
    assert len(lengths) and lengths.min() > 0 and lengths.sum() == len(ids)
    if self._marks_words:
      ids = np.where(ids < 0, ~ids * 2 + 1, ids * 2)
    lengths = lengths.astype("<u4")
    head = np.array([len(lengths)], "<u4")
    record = (
      head.tobytes() + lengths.tobytes() + ids.astype(self._dtype).tobytes()
    )
    try:
      self._writer.write(record)
    except RuntimeError as error:
      raise self._unwritable(error) from None
    self._lengths.append(lengths)

  def close(self) -> None:
    """Finishes the shard and writes `PATH.lengths.npy`, `PATH.counts.npy`."""
    try:
      self._writer.close()
    except RuntimeError as error:
      raise self._unwritable(error) from None
    lengths = np.concatenate([np.zeros(0, "<u4"), *self._lengths])
    counts = np.array([len(lengths) for lengths in self._lengths], "<i8")
    for array, part in zip((lengths, counts), _parts(self.path)):
      np.save(part, array)

  def _unwritable(self, error: RuntimeError) -> UserError:
    reason = str(error).partition(";")[0]
    return UserError(f"cannot write {self.path}: {reason}")


def _parts(path: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
  return (
    path.with_name(path.name + ".lengths.npy"),
    path.with_name(path.name + ".counts.npy"),
  )


def join_indices(folder: pathlib.Path, split: str, shards: int) -> list[int]:
  """Joins the index parts of shards; returns their numbers of documents."""
  parts = [
    _parts(folder / shard_name(split, shard, shards)) for shard in range(shards)
  ]
  lengths = [np.load(lengths) for lengths, _ in parts]
  counts = [np.load(counts) for _, counts in parts]
  starts = np.zeros(1 + sum(map(len, counts)), "<i8")
  np.cumsum(np.concatenate(counts), out=starts[1:])
  for name, array in zip(index_names(split), (np.concatenate(lengths), starts)):
    np.save(folder / name, array)
  for part in sum(parts, ()):
    part.unlink()
  return [len(count) for count in counts]


def read_manifest(folder: paths.Path) -> dict[str, Any]:
  """The content of `corpus.json`.

  Raises:
    UserError: the file does not exist or cannot be read, or has another
      format version.
  """
  path = paths.local(folder) / MANIFEST
  try:
    manifest = json.loads(path.read_text(encoding="utf-8"))
    version = manifest["format"]
  except FileNotFoundError:
    raise UserError(
      f"config.data.corpus: {str(folder)!r} is not a complete corpus (no"
      f" {MANIFEST}); prepare one with `bert-jax prepare --config"
      f" CONFIG.py --output {folder}`"
    ) from None
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise UserError(
      f"config.data.corpus: {path} is damaged ({error!r}); prepare the corpus"
      " again"
    ) from None
  if version not in (FORMAT, FORMAT_WITH_WORDS):
    raise UserError(
      f"config.data.corpus: {path} has format {version!r}, but this version of"
      f" bert_jax reads formats {FORMAT} and {FORMAT_WITH_WORDS}; prepare the"
      " corpus again"
    )
  return manifest


class Document(Sequence):
  """The sentences of a document, as a sequence of int32 arrays."""

  def __init__(
    self,
    ids: Int32[np.ndarray, "tokens"],
    lengths: Int[np.ndarray, "sentences"],
  ):
    """Splits the concatenated ids of all sentences by their lengths."""
    self._ids = ids
    self._bounds = [0, *np.cumsum(lengths).tolist()]

  def __len__(self) -> int:
    """The number of sentences."""
    return len(self._bounds) - 1

  def __getitem__(
    self, index: int | slice
  ) -> Int32[np.ndarray, "tokens"] | list[Int32[np.ndarray, "tokens"]]:
    """The token ids of a sentence, or a list of them for a slice."""
    found = range(len(self))[index]
    if isinstance(index, slice):
      return [self[i] for i in found]
    return self._ids[self._bounds[found] : self._bounds[found + 1]]


class _Shard(NamedTuple):
  """A shard for ArrayRecordDataSource, which need not count its records."""

  filename: str
  skip: int
  take: int
  examples_in_shard: int


@dataclasses.dataclass(frozen=True, eq=False)
class Corpus:
  """The tokenized documents of a split, by random access.

  Thread-safe; pickled as its folder and split.

  Attributes:
    folder: the folder of the corpus and of its tokenizer.
    split: "train" or "eval".
    manifest: the content of `corpus.json`.
    sentence_lengths: the number of tokens of each sentence; memory-mapped.
    document_starts: the index of the first sentence of each document, and at
      the end the number of sentences; memory-mapped.
  """

  folder: pathlib.Path
  split: str
  manifest: Mapping[str, Any] = dataclasses.field(repr=False)
  sentence_lengths: UInt32[np.ndarray, "sentences"] = dataclasses.field(
    repr=False
  )
  document_starts: Int64[np.ndarray, "documents+1"] = dataclasses.field(
    repr=False
  )
  _records: Any = dataclasses.field(repr=False)

  @classmethod
  def open(cls, folder: paths.Path, split: str = "train") -> "Corpus":
    """Opens a split, "train" or "eval", of a corpus by `bert-jax prepare`.

    Raises:
      UserError: the corpus is not complete, a file is missing or has the wrong
        size, or the split is unknown or empty.
    """
    from array_record.python import array_record_data_source  # Slow to import.

    folder = paths.local(folder)
    if split not in SPLITS:
      raise UserError(
        f"unknown split {split!r} of a corpus; known: {', '.join(SPLITS)}"
      )
    manifest = read_manifest(folder)
    counts = manifest["splits"][split]
    if not counts["documents"]:
      raise UserError(
        f"config.data.corpus: {str(folder)!r} has no {split} documents (see"
        " config.corpus.eval_fraction)"
      )
    for name, file in manifest["files"].items():
      path, size = folder / name, file["bytes"]
      found = path.stat().st_size if path.is_file() else None
      if found != size:
        reason = (
          "is missing" if found is None else f"has {found} bytes, not {size}"
        )
        raise UserError(
          f"config.data.corpus: {path} {reason}; prepare the corpus again"
        )
    # Slices of a plain array are several times faster than those of a memmap.
    lengths, starts = (
      np.asarray(np.load(folder / name, mmap_mode="r"))
      for name in index_names(split)
    )
    shards = [
      _Shard(str(folder / shard["file"]), 0, shard["documents"], 0)
      for shard in counts["shards"]
    ]
    records = array_record_data_source.ArrayRecordDataSource(shards)
    return cls(folder, split, manifest, lengths, starts, records)

  @property
  def vocabulary_size(self) -> int:
    """The size of the vocabulary."""
    return self.manifest["vocabulary_size"]

  @property
  def marks_words(self) -> bool:
    """Whether a token that continues a word has the id `~id`, below 0."""
    return self.manifest["format"] == FORMAT_WITH_WORDS

  def __len__(self) -> int:
    """The number of documents."""
    return len(self.document_starts) - 1

  def __getitem__(self, index: int) -> Document:
    """The sentences of a document, as ids without special tokens.

    In a corpus that marks words, the id of a token that continues one is `~id`.

    Raises:
      IndexError: there is no such document.
      UserError: its shard is damaged.
    """
    if not 0 <= index < len(self):
      raise IndexError(f"document {index} of {len(self)}")
    first, last = self.document_starts[index : index + 2]
    lengths = self.sentence_lengths[first:last]
    try:
      record = self._records[index]
    except (RuntimeError, OSError, ValueError, IndexError) as error:
      raise self._damaged(index, str(error).partition(";")[0]) from None
    dtype = id_dtype(self.vocabulary_size, self.marks_words)
    head = np.frombuffer(record, "<u4", min(1 + len(lengths), len(record) // 4))
    ids = np.frombuffer(record[head.nbytes :], dtype)
    if (
      not np.array_equal(head[1:], lengths)
      or head[0] != len(lengths)
      or len(ids) != lengths.sum()
    ):
      raise self._damaged(index, "it does not match the index")
    ids = ids.astype(np.int32)
    if self.marks_words:
      ids = np.where(ids % 2, ~(ids // 2), ids // 2)
    return Document(ids, lengths)

  def _damaged(self, index: int, reason: str) -> UserError:
    for shard in self.manifest["splits"][self.split]["shards"]:
      if index < shard["documents"]:
        break
      index -= shard["documents"]
    return UserError(
      f"config.data.corpus: {self.folder / shard['file']} is damaged at"
      f" record {index} ({reason}); prepare the corpus again"
    )

  def __reduce__(self) -> tuple[Any, ...]:
    return Corpus.open, (self.folder, self.split)
