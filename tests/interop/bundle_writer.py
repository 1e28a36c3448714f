"""Writes TensorFlow checkpoints byte by byte, valid and malformed ones.

Shares nothing with the reader but NumPy and the CRC library. That the reader
reads what TensorFlow writes is shown by `test_tensor_bundle.TENSORFLOW`.
"""

import itertools
import pathlib
import struct

import google_crc32c

MAGIC = bytes.fromhex("57fb808b247547db")
TYPES = {"float32": 1, "int32": 3, "int64": 9, "bool": 10, "bfloat16": 14}


def varint(value):
  value &= (1 << 64) - 1
  if value < 0x80:
    return bytes([value])
  return bytes([value & 0x7F | 0x80]) + varint(value >> 7)


def checksum(data):
  crc = google_crc32c.value(data)
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) % (1 << 32)


def number(field, value):
  return varint(field << 3) + varint(value)


def message(field, content):
  return varint(field << 3 | 2) + varint(len(content)) + content


def header(shards=1, endianness=0, min_consumer=0):
  version = number(1, 1) + number(2, min_consumer)
  return number(1, shards) + number(2, endianness) + message(3, version)


def entry(
  dtype,
  shape,
  shard=0,
  offset=0,
  size=0,
  crc=0,
  slices=(),
):
  """A `BundleEntryProto`; a slice is a start and a length for each axis."""
  axes = b"".join(message(2, number(1, length)) for length in shape)
  cuts = b""
  for cut in slices:
    extents = (number(1, start) + number(2, length) for start, length in cut)
    cuts += message(7, b"".join(message(1, extent) for extent in extents))
  return (
    number(1, dtype)
    + message(2, axes)
    + number(3, shard)
    + number(4, offset)
    + number(5, size)
    + varint(6 << 3 | 5)
    + struct.pack("<I", crc)
    + cuts
  )


def block(items, interval=2):
  """A block of prefix-compressed entries with restart points."""
  content, restarts, last = b"", [], b""
  for place, (key, value) in enumerate(items):
    if place % interval == 0:
      restarts.append(len(content))
      last = b""
    shared = min(len(last), len(key))
    while last[:shared] != key[:shared]:
      shared -= 1
    content += varint(shared) + varint(len(key) - shared) + varint(len(value))
    content += key[shared:] + value
    last = key
  restarts = restarts or [0]
  return content + struct.pack(
    f"<{len(restarts) + 1}I", *restarts, len(restarts)
  )


def sealed(contents, compression=0):
  typed = contents + bytes([compression])
  return typed + struct.pack("<I", checksum(typed))


def assembled(blocks, last_keys):
  """A table of blocks that have their checksums."""
  body, handles = b"", []
  for contents in blocks:
    handles.append(varint(len(body)) + varint(len(contents) - 5))
    body += contents
  return with_index(body, block(zip(last_keys, handles), interval=1))


def with_index(body, index):
  """A table of data blocks and the contents of an index block."""
  meta = block([])
  handles = varint(len(body)) + varint(len(meta))
  body += sealed(meta)
  handles += varint(len(body)) + varint(len(index))
  return body + sealed(index) + handles.ljust(40, b"\0") + MAGIC


def table(items, in_block=3, compression=0):
  """A table of items in the order given."""
  items = list(items)
  groups = [
    items[start : start + in_block] for start in range(0, len(items), in_block)
  ]
  return assembled(
    [sealed(block(group), compression) for group in groups],
    [group[-1][0] for group in groups],
  )


def slice_key(name, cut):
  """The ordered-code key of a slice, for numbers below 8192."""
  numbers = b""
  for value in itertools.chain(*cut):
    assert 0 <= value < 8192
    numbers += (
      bytes([0x80 | value])
      if value < 64
      else (0xC000 | value).to_bytes(2, "big")
    )
  return b"\0" + name + b"\0\1" + b"\1" + bytes([len(cut)]) + numbers


def write(
  prefix,
  values,
  shards=1,
  cuts=None,
):
  """Writes a checkpoint, and returns the items of its index.

  Tensors go to the shards in turns; `cuts` are the rows of a slice of
  partitioned tensors.
  """
  data = [b""] * shards
  items = {b"": header(shards)}
  turns = itertools.cycle(range(shards))

  def store(key, value):
    raw, shard = value.tobytes(), next(turns)
    place = (shard, len(data[shard]), len(raw), checksum(raw))
    items[key] = entry(TYPES[value.dtype.name], value.shape, *place)
    data[shard] += raw

  for name, value in values.items():
    if rows := (cuts or {}).get(name):
      slices = []
      for start in range(0, len(value), rows):
        part = value[start : start + rows]
        lengths = [(0, length) for length in value.shape[1:]]
        slices.append([(start, len(part)), *lengths])
        store(slice_key(name.encode(), slices[-1]), part)
      items[name.encode()] = entry(
        TYPES[value.dtype.name], value.shape, slices=slices
      )
    else:
      store(name.encode(), value)
  for shard, content in enumerate(data):
    path = pathlib.Path(f"{prefix}.data-{shard:05}-of-{shards:05}")
    path.write_bytes(content)
  items = dict(sorted(items.items()))
  pathlib.Path(f"{prefix}.index").write_bytes(table(items.items()))
  return items
