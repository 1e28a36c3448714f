"""Parses serialized `tf.train.Example` protos of numbers.

The messages (`tensorflow/core/example/{example,feature}.proto`):

  Example   { Features features = 1; }
  Features  { map<string, Feature> feature = 1; }  entries: key = 1, value = 2
  Feature   { oneof: bytes_list = 1, float_list = 2, int64_list = 3 }
  ...List   { repeated value = 1; }  numbers packed or not

The wire format: https://protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
_VARINT_BYTES = 10


def parse(data: bytes) -> dict[str, np.ndarray]:
  """The features by name.

  Args:
    data: a serialized Example.

  Returns:
    One-dimensional arrays of dtype int64, float32, or object for bytes.

  Raises:
    ValueError: the bytes are not a valid Example.
  """
  features = {}
  for message in _messages(data, 1):
    for entry in _messages(message, 1):
      name, value = b"", b""
      for number, wire, content in _fields(entry):
        if wire == _BYTES and number == 1:
          name = content
        elif wire == _BYTES and number == 2:
          value = content
      try:
        features[name.decode()] = _feature(value)
      except UnicodeDecodeError:
        raise ValueError(f"malformed proto: feature name {name!r}") from None
  return features


def _feature(data: bytes) -> np.ndarray:
  """The values of a Feature; none if no list is set."""
  parts, dtype = [], np.dtype(np.int64)
  for number, wire, content in _fields(data):
    if wire != _BYTES or number not in (1, 2, 3):
      continue
    kind = {1: np.dtype(object), 2: np.dtype("<f4"), 3: np.dtype(np.int64)}
    if kind[number] != dtype:
      parts, dtype = [], kind[number]  # The last one of a oneof is valid.
    for item, item_wire, value in _fields(content):
      if item == 1:
        parts.append(_values(dtype, item_wire, value))
  return np.concatenate([np.zeros(0, dtype), *parts])


def _values(dtype: np.dtype, wire: int, value: bytes | int) -> np.ndarray:
  if dtype.kind == "O" and wire == _BYTES:
    return np.array([value], object)
  if dtype == np.int64 and wire == _VARINT:
    return np.array([value], np.uint64).view(np.int64)
  if dtype == np.int64 and wire == _BYTES:
    return _varints(value)
  if (
    dtype == np.float32
    and wire in (_BYTES, _FIXED32)
    and len(value) % dtype.itemsize == 0
  ):
    return np.frombuffer(value, dtype)
  raise ValueError("malformed proto: a list with values of the wrong type")


def _varints(data: bytes) -> Int64[np.ndarray, "values"]:
  """Packed varints; negative numbers take ten bytes."""
  raw = np.frombuffer(data, np.uint8)
  last = raw < 0x80
  if last.all():
    return raw.astype(np.int64)
  if not last[-1]:
    raise ValueError("malformed proto: a number is truncated")
  starts = np.flatnonzero(np.concatenate([[True], last[:-1]]))
  sizes = np.diff(starts, append=len(raw))
  if sizes.max() > _VARINT_BYTES:
    raise ValueError("malformed proto: a number is too long")
  place = np.arange(len(raw)) - np.repeat(starts, sizes)
  bits = (raw & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
  return np.add.reduceat(bits, starts).view(np.int64)


def _messages(data: bytes, wanted: int) -> Iterator[bytes]:
  """Yields the contents of the message fields with a given number."""
  for number, wire, content in _fields(data):
    if number == wanted and wire == _BYTES:
      yield content


def _fields(data: bytes) -> Iterator[tuple[int, int, bytes | int]]:
  """Yields the number, wire type and content of each field."""
  offset = 0
  while offset < len(data):
    tag, offset = _varint(data, offset)
    number, wire = tag >> 3, tag & 7
    if wire == _VARINT:
      content, offset = _varint(data, offset)
      yield number, wire, content
      continue
    if wire == _BYTES:
      size, offset = _varint(data, offset)
    elif wire in _FIXED_SIZES:
      size = _FIXED_SIZES[wire]
    else:
      raise ValueError(f"malformed proto: wire type {wire}")
    if size > len(data) - offset:
      raise ValueError("malformed proto: a field extends beyond the end")
    yield number, wire, data[offset : offset + size]
    offset += size


def _varint(data: bytes, offset: int) -> tuple[int, int]:
  """The varint at `offset`, and the offset after it."""
  value = 0
  for place, byte in enumerate(data[offset : offset + _VARINT_BYTES]):
    value |= (byte & 0x7F) << 7 * place
    if byte < 0x80:
      return value & 0xFFFFFFFFFFFFFFFF, offset + place + 1
  raise ValueError("malformed proto: a number is truncated or too long")
