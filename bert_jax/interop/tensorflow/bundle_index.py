"""What the index of a TensorFlow checkpoint says, checked against its files.

The index is a table (`sstable`). Its first key, the empty one, has a header;
every other key has the entry (`bundle_proto`) of a tensor: type, shape, place
and checksum. A partitioned variable has an entry that lists its slices, and
an entry for each slice, whose key starts with a zero byte.
"""

import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from google.protobuf.message import DecodeError

from bert_jax.interop.tensorflow import bundle_proto, sstable
from bert_jax.interop.tensors import TensorInfo
from bert_jax.settings import UserError

# The numbers of `tensorflow/core/framework/types.proto`.
DTYPES: Mapping[int, np.dtype] = {
  1: np.dtype(np.float32),
  2: np.dtype(np.float64),
  3: np.dtype(np.int32),
  4: np.dtype(np.uint8),
  5: np.dtype(np.int16),
  6: np.dtype(np.int8),
  9: np.dtype(np.int64),
  10: np.dtype(np.bool_),
  14: np.dtype(jnp.bfloat16),
  17: np.dtype(np.uint16),
  19: np.dtype(np.float16),
  22: np.dtype(np.uint32),
  23: np.dtype(np.uint64),
}
OTHER = np.dtype(object)
"""Stands for every type that is not read."""
_VERSION = 1  # kTensorBundleVersion
_MAX_INDEX_BYTES = 4 << 20  # BERT-large's has 0.1 MB, Adam's slots included
_MAX_ENTRIES = 1 << 16
_MAX_AXES = 32
_FULL = -1  # the length of a slice along an axis that is not cut


class Piece(NamedTuple):
  """Some bytes of a data file: a whole tensor, or a slice of one.

  Attributes:
    path: the data file.
    offset: the first byte.
    size: the number of bytes.
    checksum: their masked CRC-32C.
    shape: the shape of the piece.
    where: the place of the piece in its tensor.
  """

  path: pathlib.Path
  offset: int
  size: int
  checksum: int
  shape: tuple[int, ...]
  where: tuple[slice, ...]


def read(
  prefix: pathlib.Path,
) -> tuple[dict[str, TensorInfo], dict[str, tuple[Piece, ...]]]:
  """The tensors of a checkpoint, and the pieces of each, by name.

  Every piece lies within its file and is as large as its shape and type say;
  the pieces of a tensor cover it once; no two tensors share bytes, so all
  together are no larger than the files.

  Raises:
    UserError: a file is missing, damaged, or not of a form that is read.
  """
  index = pathlib.Path(f"{prefix}.index")
  size = _size(index)
  try:
    if size > _MAX_INDEX_BYTES:
      raise ValueError(f"{size} bytes; an index has at most {_MAX_INDEX_BYTES}")
    return _parse(prefix, index.read_bytes())
  except OSError as error:
    raise UserError(f"{index}: {error.strerror}") from None
  except UserError:
    raise
  except ValueError as error:
    raise UserError(f"{index}: {error}") from None


def _size(path: pathlib.Path) -> int:
  try:
    size = path.stat().st_size
  except OSError as error:
    raise UserError(f"{path}: {error.strerror}") from None
  if not path.is_file():
    raise UserError(f"{path}: not a file")
  return size


def _parse(
  prefix: pathlib.Path, index: bytes
) -> tuple[dict[str, TensorInfo], dict[str, tuple[Piece, ...]]]:
  table = sstable.items(index)
  shards = _num_shards(*next(table, (b"", b"")))
  entries = {}
  for key, value in table:
    if len(entries) == _MAX_ENTRIES:
      raise ValueError(f"more than {_MAX_ENTRIES} entries")
    entries[key] = _message(bundle_proto.Entry, key, value)
  infos = {key: _info(key, entry) for key, entry in entries.items()}
  stored = {
    key: _piece(prefix, shards, key, entry, infos[key])
    for key, entry in entries.items()
    if not entry.slices
  }
  _check_places(stored)

  shapes, pieces = {}, {}
  for key, entry in entries.items():
    if key.startswith(b"\0"):
      continue
    try:
      name = key.decode()
    except UnicodeDecodeError:
      raise ValueError(f"the name {key!r} is not UTF-8") from None
    shapes[name] = infos[key]
    pieces[name] = (
      _slices(key, entry, infos, stored) if entry.slices else (stored[key],)
    )
  return shapes, pieces


def _message(kind: type, key: bytes, value: bytes) -> Any:
  try:
    return kind.FromString(value)
  except DecodeError:
    raise ValueError(f"the entry of {key!r} is malformed") from None


def _num_shards(key: bytes, value: bytes) -> int:
  """The number of data files, of the table's first entry."""
  if key:
    raise ValueError(f"no header; the first key is {key!r}")
  header = _message(bundle_proto.Header, key, value)
  if header.endianness:
    raise ValueError("written by a big-endian machine, which is not read")
  version = header.version
  if version.min_consumer > _VERSION or _VERSION in version.bad_consumers:
    raise ValueError(
      f"needs a reader of version {version.min_consumer}; this one has version"
      f" {_VERSION}"
    )
  if header.num_shards < 1:
    raise ValueError(f"says {header.num_shards} data files; expected 1 or more")
  return header.num_shards


def _info(key: bytes, entry: Any) -> TensorInfo:
  if entry.shape.unknown_rank or len(entry.shape.dim) > _MAX_AXES:
    raise ValueError(f"{key!r} has an unknown rank or over {_MAX_AXES} axes")
  shape = tuple(axis.size for axis in entry.shape.dim)
  dtype = DTYPES.get(entry.dtype, OTHER)
  # NumPy wants the other axes of an empty array to make a size that fits too.
  elements = math.prod(size for size in shape if size)
  if min(shape, default=0) < 0 or elements * dtype.itemsize >= 1 << 63:
    raise ValueError(f"{key!r} has the impossible shape {shape}")
  return TensorInfo(shape, dtype)


def _piece(
  prefix: pathlib.Path, shards: int, key: bytes, entry: Any, info: TensorInfo
) -> Piece:
  """The bytes of an entry that lists no slices."""
  if not 0 <= entry.shard_id < shards:
    raise ValueError(f"{key!r} is in data file {entry.shard_id} of {shards}")
  if entry.offset < 0 or entry.size < 0:
    raise ValueError(f"{key!r} has {entry.size} bytes at byte {entry.offset}")
  expected = math.prod(info.shape) * info.dtype.itemsize
  if info.dtype != OTHER and entry.size != expected:
    raise ValueError(
      f"{key!r}, {info.dtype} of shape {info.shape}, has {entry.size} bytes;"
      f" expected {expected}"
    )
  return Piece(
    path=pathlib.Path(f"{prefix}.data-{entry.shard_id:05}-of-{shards:05}"),
    offset=entry.offset,
    size=entry.size,
    checksum=entry.crc32c,
    shape=info.shape,
    where=tuple(slice(0, size) for size in info.shape),
  )


def _check_places(stored: Mapping[bytes, Piece]) -> None:
  """Refuses pieces that are beyond the end of their file, or overlap."""
  places = sorted(
    (piece.path, piece.offset, piece.offset + piece.size, key)
    for key, piece in stored.items()
  )
  for path, group in itertools.groupby(places, lambda place: place[0]):
    size, last_end = _size(path), 0
    for _, start, end, key in group:
      if end > size:
        raise UserError(
          f"{path}: ends at byte {size}, but {key!r} at byte {end}; the file"
          " is cut off, or the index is of another checkpoint"
        )
      if start < min(last_end, end):
        raise ValueError(f"{key!r} overlaps another tensor in its data file")
      last_end = end


def _slices(
  key: bytes,
  entry: Any,
  infos: Mapping[bytes, TensorInfo],
  stored: Mapping[bytes, Piece],
) -> tuple[Piece, ...]:
  """The pieces of a partitioned variable.

  They cut it along one axis, as the partitioners of `tf.compat.v1` do.
  """
  shape, dtype = infos[key]
  fault = f"{key!r} is not covered once by its slices, in one row"
  if len(entry.slices) > len(stored):
    raise ValueError(fault)
  pieces = []
  for cut in entry.slices:
    extents = [
      (extent.start, extent.length if extent.HasField("length") else _FULL)
      for extent in cut.extent
    ]
    where = tuple(
      slice(0, size) if length == _FULL else slice(start, start + length)
      for (start, length), size in zip(extents, shape)
    )
    slice_key = _slice_key(key, extents)
    if slice_key not in stored:
      raise ValueError(f"{key!r} has no entry for its slice {extents}")
    lengths = tuple(part.stop - part.start for part in where)
    if len(extents) != len(shape) or infos[slice_key] != (lengths, dtype):
      raise ValueError(f"{key!r} differs from its slice {extents}")
    pieces.append(stored[slice_key]._replace(where=where))
  if not _tile(shape, [piece.where for piece in pieces]):
    raise ValueError(fault)
  return tuple(pieces)


def _tile(shape: tuple[int, ...], places: Sequence[tuple[slice, ...]]) -> bool:
  """Whether the places, side by side along one axis, make up the shape."""
  axes = {
    axis
    for place in places
    for axis, size in enumerate(shape)
    if place[axis] != slice(0, size)
  }
  if len(axes) != 1:
    return not axes and len(places) == 1
  (axis,) = axes
  parts = sorted((place[axis].start, place[axis].stop) for place in places)
  starts, stops = zip(*parts)
  return (*starts, shape[axis]) == (0, *stops)


def _slice_key(key: bytes, extents: Sequence[tuple[int, int]]) -> bytes:
  """The key of a slice's entry: TensorFlow's `EncodeTensorNameSlice`.

  Its parts (`tensorflow/core/lib/strings/ordered_code.cc`): the number 0, the
  name, the number of axes, and of each axis two signed numbers.
  """
  escaped = key.replace(b"\0", b"\0\xff")  # UTF-8 has no byte \xff to escape
  numbers = b"".join(_ordered(number) for pair in extents for number in pair)
  return b"\0" + escaped + b"\0\1" + bytes([1, len(extents)]) + numbers


def _ordered(number: int) -> bytes:
  """A signed number in bytes that sort as the numbers do.

  As many leading ones as there are bytes, a zero, and the number; of a
  negative number, the complement of its complement's.
  """
  if number < 0:
    return bytes(~byte & 0xFF for byte in _ordered(~number))
  size = number.bit_length() // 7 + 1
  ones = (1 << size) - 1 << 7 * size
  return (ones | number).to_bytes(size, "big")
