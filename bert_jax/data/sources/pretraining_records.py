"""Reads pretraining examples from TFRecord files, without TensorFlow.

The records are those of the scripts of Google, NVIDIA and MLPerf: serialized
`tf.train.Example` protos. The file format is that of TensorFlow
(`tensorflow/core/lib/io/record_writer.h`). The checksums of lengths are
verified when files are opened, those of data when a record is read.
"""

import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Int64

from bert_jax.batch import Batch
from bert_jax.data.pretraining.examples import ExamplesConfig
from bert_jax.data.sources import files, tf_example
from bert_jax.data.stream import stack
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.storage.checksums import masked_crc32c

_LENGTH = struct.Struct("<QI")  # The length of the data, and its checksum.
_CHECKSUM = struct.Struct("<I")


class PretrainingRecords:
  """The examples of TFRecord files, the same in every epoch.

  Thread-safe and picklable. Takes 8 bytes of memory per record. Opening reads
  all files once.
  """

  def __init__(
    self,
    patterns: tuple[str, ...],
    config: ExamplesConfig,
    vocabulary_size: int | None = None,
    key: str = "config.data.train",
  ):
    """Opens the files and finds the records.

    Args:
      patterns: paths and glob patterns of files.
      config: `max_length`, `max_predictions` and `next_sentence` are used; a
        row is one record.
      vocabulary_size: the upper limit of token ids; None for no limit.
      key: the config key of `patterns`, for messages.

    Raises:
      UserError: no file matches, there are no records, or a file does not
        consist of complete TFRecords.
    """
    self._config = config
    self._id_limit = vocabulary_size or 1 << 31
    self._key = key
    found = files.find(patterns, key)
    self._paths = [str(paths.local(path)) for path in found]
    offsets = [
      np.fromiter(self._scan(path), np.int64, -1) for path in self._paths
    ]
    self._offsets = np.concatenate(offsets)
    self._ends = np.cumsum([len(of_file) for of_file in offsets])
    if not len(self._offsets):
      raise UserError(f"{key}: no records in {', '.join(self._paths)}")

  def epoch_length(self, epoch: int) -> int:
    """The number of records, in any epoch."""
    del epoch
    return len(self._offsets)

  def example(self, epoch: int, index: int) -> Batch:
    """Record `index` as an unbatched example of NumPy arrays.

    The fields and targets are those of `PretrainingExamples.batch`.

    Raises:
      IndexError: there is no such record.
      UserError: the record is damaged, or does not match the config.
    """
    del epoch
    if not 0 <= index < len(self._offsets):
      raise IndexError(f"record {index} of {len(self._offsets)}")
    file = int(np.searchsorted(self._ends, index, "right"))
    path, offset = self._paths[file], int(self._offsets[index])
    try:
      return self._batch(tf_example.parse(_read(path, offset)))
    except (ValueError, OSError) as error:
      number = index - (int(self._ends[file - 1]) if file else 0)
      raise UserError(
        f"{self._key}: {path}, record {number} at byte {offset}: {error}"
      ) from None

  def batch(self, epoch: int, indices: Sequence[int]) -> Batch:
    """Records as a batch of NumPy arrays; raises the errors of `example`."""
    return stack([self.example(epoch, index) for index in indices])

  def _scan(self, path: str) -> Iterator[int]:
    """Yields the offset of each record of a file."""
    size = os.path.getsize(path)
    if not size:
      return
    with (
      open(path, "rb") as file,
      mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
      if data[:2] == b"\x1f\x8b":
        raise UserError(
          f"{self._key}: {path} is compressed and allows no random access;"
          f" decompress it: gunzip {path}"
        )
      offset = number = 0
      while offset < size:
        end, fault = _end(data, offset, size)
        if fault:
          raise UserError(
            f"{self._key}: {path}, record {number} at byte {offset}: {fault}"
          )
        yield offset
        offset, number = end, number + 1

  def _batch(self, features: Mapping[str, np.ndarray]) -> Batch:
    length, slots = self._config.max_length, self._config.max_predictions
    token_ids = _integers(features, "input_ids", length, self._id_limit)
    sequence_ids = _integers(features, "input_mask", length, 2)
    segment_ids = _integers(features, "segment_ids", length, 2)
    positions = _integers(features, "masked_lm_positions", slots, length)
    ids = _integers(features, "masked_lm_ids", slots, self._id_limit)
    weights = _get(features, "masked_lm_weights", slots, np.floating)
    if not np.isfinite(weights).all() or (weights < 0).any():
      raise ValueError("masked_lm_weights: expected finite values from 0")
    (label,) = _integers(features, "next_sentence_labels", 1, 2)
    return Batch(
      token_ids=token_ids,
      segment_ids=segment_ids,
      position_ids=np.arange(length, dtype=np.int32) * sequence_ids,
      sequence_ids=sequence_ids,
      targets={
        "masked_lm/positions": positions,
        "masked_lm/ids": ids,
        "masked_lm/weights": weights,
        "next_sentence/labels": np.array([label], np.int32),
        "next_sentence/weights": np.array(
          [self._config.next_sentence], np.float32
        ),
      },
    )


_CONFIG_KEYS = {
  **dict.fromkeys(("input_ids", "input_mask", "segment_ids"), "max_length"),
  **{
    f"masked_lm_{x}": "max_predictions" for x in ("positions", "ids", "weights")
  },
}


def _get(
  features: Mapping[str, np.ndarray], name: str, count: int, kind: type
) -> Int64[np.ndarray, "count"] | Float32[np.ndarray, "count"]:
  if name not in features:
    raise ValueError(
      f"no feature {name!r}; its features:"
      f" {', '.join(sorted(features)) or 'none'}"
    )
  values = features[name]
  if not np.issubdtype(values.dtype, kind):
    raise ValueError(f"{name}: expected {kind.__name__}, got {values.dtype}")
  if len(values) != count:
    expected = (
      f"config.data.{_CONFIG_KEYS[name]} is {count}"
      if name in _CONFIG_KEYS
      else f"expected {count}"
    )
    raise ValueError(f"{name} has {len(values)} values, but {expected}")
  return values


def _integers(
  features: Mapping[str, np.ndarray], name: str, count: int, limit: int
) -> np.ndarray:
  values = _get(features, name, count, np.integer)
  if values.min() < 0 or values.max() >= limit:
    wrong = values[(values < 0) | (values >= limit)][0]
    raise ValueError(f"{name}: expected 0 to {limit - 1}, got {wrong}")
  return values.astype(np.int32)


def _end(data: mmap.mmap, offset: int, size: int) -> tuple[int, str]:
  """The end of the record at `offset`, and the reason if it is damaged."""
  start = offset + _LENGTH.size
  if start > size:
    return 0, "the file is truncated within the length of a record"
  length, checksum = _LENGTH.unpack_from(data, offset)
  if checksum != masked_crc32c(data[offset : offset + 8]):
    return 0, "wrong checksum of the length: damaged, or not a TFRecord file"
  end = start + length + _CHECKSUM.size
  if end > size:
    return 0, (
      f"the file is truncated: a length of {length} bytes exceeds its size of"
      f" {size} bytes"
    )
  return end, ""


def _read(path: str, offset: int) -> bytes:
  """The data of a record found by `_scan`."""
  with open(path, "rb", buffering=0) as file:
    file.seek(offset)
    head = file.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
      raise ValueError("the file has become shorter since it was opened")
    length, checksum = _LENGTH.unpack(head)
    left = os.fstat(file.fileno()).st_size - offset - len(head)
    if checksum != masked_crc32c(head[:8]) or length + _CHECKSUM.size > left:
      raise ValueError("the file has changed since it was opened")
    record = file.read(length + _CHECKSUM.size)
  (checksum,) = _CHECKSUM.unpack(record[length:])
  if checksum != masked_crc32c(record[:length]):
    raise ValueError("wrong checksum of the data; the file is damaged")
  return record[:length]
