"""Reads TensorFlow checkpoints, the format of Google's BERT releases.

A checkpoint `bert_model.ckpt` consists of an index, `bert_model.ckpt.index`,
and data files, `bert_model.ckpt.data-00000-of-00001` and so on. TensorFlow
calls it a tensor bundle, `tensorflow/core/util/tensor_bundle/tensor_bundle.cc`;
both `tf.compat.v1.train.Saver` and `tf.train.Checkpoint` write it.

The index is a sorted string table (`sstable`) of protocol buffers. A
partitioned variable has an entry that lists its slices, and an entry for each
slice, whose key starts with a zero byte.

The files are not trusted: the index is checked against the data files when a
checkpoint is opened, and the checksum of each tensor when it is read.
"""

import dataclasses
import itertools
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from google.protobuf.message import DecodeError

from bert_jax.interop.tensor_reader import TensorInfo
from bert_jax.interop.tensorflow import sstable
from bert_jax.settings import UserError
from bert_jax.storage import protos
from bert_jax.storage.checksums import masked_crc32c

# By their numbers in `tensorflow/core/framework/types.proto`.
_DTYPES: Mapping[int, np.dtype] = {
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
_UNSUPPORTED = np.dtype(object)  # Stands for every other dtype.
_VERSION = 1  # kTensorBundleVersion
_MAX_INDEX_BYTES = 4 << 20  # 0.1 MB for BERT-large with its Adam moments.
_MAX_ENTRIES = 1 << 16
_MAX_AXES = 32
_FULL = -1  # The length of a slice along an axis that is not partitioned.

# Only the fields that reading weights needs, with their numbers in
# `tensorflow/core/protobuf/tensor_bundle.proto` and
# `tensorflow/core/framework/{tensor_shape,tensor_slice,versions}.proto`; enums
# are integers. A `Header` is the value of the first, empty key of the index, an
# `Entry` that of all other keys.
_MESSAGES = protos.message_classes(
  "bert_jax.tensor_bundle",
  {
    "Version": {"min_consumer": (2, "int32"), "bad_consumers": (3, "int32[]")},
    "Header": {
      "num_shards": (1, "int32"),
      "endianness": (2, "int32"),  # 0 is little
      "version": (3, "Version"),
    },
    "Dimension": {"size": (1, "int64")},
    "Shape": {"dim": (2, "Dimension[]"), "unknown_rank": (3, "bool")},
    "Extent": {"start": (1, "int64"), "length": (2, "int64")},
    "Slice": {"extent": (1, "Extent[]")},
    "Entry": {
      "dtype": (1, "int32"),
      "shape": (2, "Shape"),
      "shard_id": (3, "int32"),
      "offset": (4, "int64"),
      "size": (5, "int64"),
      "crc32c": (6, "fixed32"),
      "slices": (7, "Slice[]"),
    },
  },
)


class Piece(NamedTuple):
  """The bytes of a tensor, or of a slice of one, in a data file.

  `where` is its position in the tensor, `checksum` a masked CRC-32C.
  """

  path: pathlib.Path
  offset: int
  size: int
  checksum: int
  shape: tuple[int, ...]
  where: tuple[slice, ...]


@dataclasses.dataclass(frozen=True)
class TensorBundle:
  """An open TensorFlow checkpoint, a `TensorReader`; see `open`.

  Attributes:
    shapes: the shape and dtype of each tensor by its name; a partitioned
      variable is one tensor. The dtype of an unsupported tensor, such as one
      of strings, is object.
    pieces: the pieces of each tensor in the data files.
  """

  shapes: Mapping[str, TensorInfo]
  pieces: Mapping[str, tuple[Piece, ...]] = dataclasses.field(repr=False)

  @classmethod
  def open(cls, prefix: pathlib.Path) -> "TensorBundle":
    """Reads and checks the index, without reading tensors.

    `prefix` is the common prefix of the files, `FOLDER/bert_model.ckpt`.

    Raises:
      UserError: a file is missing, damaged or not supported.
    """
    return cls(*_read_index(pathlib.Path(prefix)))

  def read(self, name: str) -> np.ndarray:
    """Reads a tensor into a new array.

    Only its bytes are read, and only the memory of the tensor and, for a
    partitioned variable, of one slice is used.

    Raises:
      KeyError: there is no such tensor.
      UserError: its bytes do not match the checksum in the index, or its dtype
        is not supported.
    """
    info, pieces = self.shapes[name], self.pieces[name]
    if info.dtype == _UNSUPPORTED:
      known = ", ".join(map(str, _DTYPES.values()))
      raise UserError(
        f"{pieces[0].path}: expected {name!r} to have one of the dtypes {known}"
      )
    if len(pieces) == 1:
      return _read_piece(name, pieces[0], info.dtype)
    tensor = np.empty(info.shape, info.dtype)
    for piece in pieces:
      tensor[piece.where] = _read_piece(name, piece, info.dtype)
    return tensor


def _read_piece(name: str, piece: Piece, dtype: np.dtype) -> np.ndarray:
  try:
    data = np.fromfile(
      piece.path, np.uint8, count=piece.size, offset=piece.offset
    )
  except OSError as error:
    raise UserError(f"{piece.path}: {error.strerror}") from None
  if len(data) < piece.size:
    raise UserError(f"{piece.path}: truncated since it was opened")
  if masked_crc32c(data) != piece.checksum:
    raise UserError(
      f"{piece.path}: wrong checksum of {name!r}; the file is damaged, or the"
      " index belongs to another checkpoint"
    )
  if dtype == np.bool_ and data.max(initial=0) > 1:
    raise UserError(f"{piece.path}: {name!r} has a boolean that is not 0 or 1")
  return data.view(dtype).reshape(piece.shape)


def _read_index(
  prefix: pathlib.Path,
) -> tuple[dict[str, TensorInfo], dict[str, tuple[Piece, ...]]]:
  """The tensors of a checkpoint and their pieces, by name.

  Every piece lies within its file and has the size of its shape and dtype; the
  pieces of a tensor cover it exactly once; tensors do not overlap, so they are
  not larger than the files.
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
    raise UserError(f"{path}: not a regular file")
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
    entries[key] = _message(_MESSAGES["Entry"], key, value)
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
  """The number of data files, from the header."""
  if key:
    raise ValueError(f"no header; the first key is {key!r}")
  header = _message(_MESSAGES["Header"], key, value)
  if header.endianness:
    raise ValueError("big-endian checkpoints are not supported")
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
  dtype = _DTYPES.get(entry.dtype, _UNSUPPORTED)
  # NumPy also limits the product of the other axes of an empty array.
  elements = math.prod(size for size in shape if size)
  if min(shape, default=0) < 0 or elements * dtype.itemsize >= 1 << 63:
    raise ValueError(f"{key!r} has the impossible shape {shape}")
  return TensorInfo(shape, dtype)


def _piece(
  prefix: pathlib.Path, shards: int, key: bytes, entry: Any, info: TensorInfo
) -> Piece:
  """The bytes of an entry without slices."""
  if not 0 <= entry.shard_id < shards:
    raise ValueError(f"{key!r} is in data file {entry.shard_id} of {shards}")
  if entry.offset < 0 or entry.size < 0:
    raise ValueError(f"{key!r} has {entry.size} bytes at byte {entry.offset}")
  expected = math.prod(info.shape) * info.dtype.itemsize
  if info.dtype != _UNSUPPORTED and entry.size != expected:
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
  """Refuses pieces beyond the end of their file, and pieces that overlap."""
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
          " is truncated, or the index belongs to another checkpoint"
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

  It is partitioned along one axis, as by the partitioners of `tf.compat.v1`.
  """
  shape, dtype = infos[key]
  fault = f"the slices of {key!r} do not cover it exactly once along one axis"
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
  """Whether slices cover the shape exactly once, along one axis."""
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
  """The key of the entry of a slice: TensorFlow's `EncodeTensorNameSlice`.

  Its parts (`tensorflow/core/lib/strings/ordered_code.cc`) are the number 0,
  the name, the number of axes, and two signed numbers for each axis.
  """
  escaped = key.replace(b"\0", b"\0\xff")  # UTF-8 has no byte \xff.
  numbers = b"".join(_ordered(number) for pair in extents for number in pair)
  return b"\0" + escaped + b"\0\1" + bytes([1, len(extents)]) + numbers


def _ordered(number: int) -> bytes:
  """An order-preserving encoding of a signed number.

  One leading one bit per byte, a zero bit, and the number; for a negative
  number, the complement of the encoding of its complement.
  """
  if number < 0:
    return bytes(~byte & 0xFF for byte in _ordered(~number))
  size = number.bit_length() // 7 + 1
  ones = (1 << size) - 1 << 7 * size
  return (ones | number).to_bytes(size, "big")
