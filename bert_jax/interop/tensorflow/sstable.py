"""Reads sorted string tables, the format of TensorFlow's checkpoint indexes.

The format is that of LevelDB (its `doc/table_format.md`), which TensorFlow
implements in `tensorflow/core/lib/io/format.cc`. Fixed-size integers are
little-endian:

  table   data blocks, a metaindex block, an index block, 48 bytes of footer
  footer  the handles of the metaindex and the index, padding, a magic number
  handle  varints: the offset and the size of a block
  block   entries, uint32 restarts, their uint32 count; then a compression byte
          and a masked CRC-32C of all of these
  entry   varints: the length of the prefix shared with the previous key, the
          length of the rest of the key, the length of the value; then the rest
          of the key, and the value

The values of the index block are the handles of the data blocks.
"""

import struct
from collections.abc import Iterator

from bert_jax.storage.checksums import masked_crc32c

_FOOTER_BYTES = 48
_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_TRAILER = struct.Struct("<BI")  # compression, checksum
_COUNT = struct.Struct("<I")
_VARINT_BYTES = 10
_MAX_KEY_BYTES = 1024  # Long keys with shared prefixes take few bytes.


def items(table: bytes) -> Iterator[tuple[bytes, bytes]]:
  """The keys and values of a table, in strictly increasing order of keys.

  Raises:
    ValueError: the bytes are not a complete, undamaged, uncompressed table.
  """
  body, footer = table[:-_FOOTER_BYTES], table[-_FOOTER_BYTES:]
  if len(footer) < _FOOTER_BYTES or not footer.endswith(_MAGIC):
    raise ValueError(
      "not the index of a TensorFlow checkpoint, or truncated: it does not end"
      " with the magic number of a table"
    )
  _, _, place = _handle(footer, 0)
  index_offset, index_size, _ = _handle(footer, place)
  last_key, end = None, 0
  for _, handle in _entries(_block(body, index_offset, index_size)):
    offset, size, _ = _handle(handle, 0)
    if offset < end:
      raise ValueError(f"malformed table: the blocks overlap at byte {offset}")
    end = offset + size + _TRAILER.size
    for key, value in _entries(_block(body, offset, size)):
      if last_key is not None and key <= last_key:
        raise ValueError(f"malformed table: the key {key!r} is out of order")
      yield key, value
      last_key = key


def _block(body: bytes, offset: int, size: int) -> bytes:
  """The contents of a block without its trailer, which is verified."""
  if offset + size + _TRAILER.size > len(body):
    raise ValueError(
      f"malformed table: a block of {size} bytes at byte {offset} exceeds the"
      f" {len(body)} bytes of blocks; the file may be truncated"
    )
  compression, checksum = _TRAILER.unpack_from(body, offset + size)
  if checksum != masked_crc32c(body[offset : offset + size + 1]):
    raise ValueError(
      f"wrong checksum of the block at byte {offset}; the file is damaged"
    )
  if compression:  # TensorFlow does not compress: TableBuilderOptions().
    raise ValueError("compressed indexes are not supported")
  return body[offset : offset + size]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
  """The keys and values of a block; a sequential scan needs no restarts."""
  restarts_bytes = _COUNT.size
  if len(block) >= _COUNT.size:
    (count,) = _COUNT.unpack_from(block, len(block) - _COUNT.size)
    restarts_bytes = _COUNT.size * (count + 1)
  end = len(block) - restarts_bytes
  if end < 0:
    raise ValueError("malformed table: restarts beyond the end of a block")
  key, offset = b"", 0
  while offset < end:
    shared, offset = _varint(block, offset)
    rest, offset = _varint(block, offset)
    size, offset = _varint(block, offset)
    if shared > len(key) or rest + size > end - offset:
      raise ValueError("malformed table: an entry exceeds its block")
    if shared + rest > _MAX_KEY_BYTES:
      raise ValueError(f"malformed table: a key of {shared + rest} bytes")
    key = key[:shared] + block[offset : offset + rest]
    offset += rest
    yield key, block[offset : offset + size]
    offset += size


def _handle(data: bytes, offset: int) -> tuple[int, int, int]:
  """The offset and size of a block, and the offset after the handle."""
  block_offset, offset = _varint(data, offset)
  block_size, offset = _varint(data, offset)
  return block_offset, block_size, offset


def _varint(data: bytes, offset: int) -> tuple[int, int]:
  """The number at `offset`, and the offset after it."""
  value = 0
  for place, byte in enumerate(data[offset : offset + _VARINT_BYTES]):
    value |= (byte & 0x7F) << 7 * place
    if byte < 0x80:
      return value, offset + place + 1
  raise ValueError("malformed table: a number is truncated or too long")
