"""Corrupt and malicious indexes of TensorFlow checkpoints."""

import random
import struct
import tracemalloc

import pytest

from bert_jax.interop.tensorflow.tensor_bundle import TensorBundle
from bert_jax.settings import UserError
from tests.errors import user_error
from tests.interop import bundle_writer as writer
from tests.interop import test_tensor_bundle

HEADER = (b"", writer.header())


def read_all(prefix):
  """The bytes of every readable tensor, by name."""
  bundle = TensorBundle.open(prefix)
  contents = {}
  for name, (shape, dtype) in bundle.shapes.items():
    if not dtype.hasobject:
      value = bundle.read(name)
      assert (value.shape, value.dtype) == (shape, dtype)
      contents[name] = value.tobytes()
  return contents


@pytest.fixture
def real(tmp_path):
  """A checkpoint of TensorFlow: its prefix, its index and its contents."""
  prefix = test_tensor_bundle.write_tensorflows(tmp_path)
  index = tmp_path / "tiny.ckpt.index"
  return prefix, index, read_all(prefix)


def test_a_truncated_index_is_refused(real):
  prefix, index, _ = real
  whole = index.read_bytes()
  for size in range(len(whole)):
    index.write_bytes(whole[:size])
    with user_error(r"tiny\.ckpt\.index: "):
      read_all(prefix)


def test_a_flipped_bit_of_an_index_is_refused_or_harmless(real):
  prefix, index, expected = real
  whole, refused = index.read_bytes(), 0
  for place in range(len(whole)):
    for flip in (0x01, 0x80, 0xFF):
      damaged = bytearray(whole)
      damaged[place] ^= flip
      index.write_bytes(damaged)
      try:
        assert read_all(prefix) == expected
      except UserError:
        refused += 1
  # The empty metaindex block and the padding of the footer have no effect.
  assert refused > 0.8 * 3 * len(whole)


def mutated(generator, data):
  """Changes, inserts, deletes or repeats some bytes."""
  data = bytearray(data)
  for _ in range(generator.randint(1, 3)):
    place = generator.randrange(len(data) + 1)
    end = min(len(data), place + generator.choice([0, 1, 1, 1, 2, 8]))
    odd = [0, 1, 0x7F, 0x80, 0xFF, generator.randrange(256)]
    new = [generator.choice(odd) for _ in range(generator.choice([0, 1, 1, 9]))]
    data[place:end] = bytes(new) or data[place:end] * 2
  return bytes(data)


@pytest.mark.parametrize("level", ["entry", "key", "block", "index"])
def test_corruption_with_valid_checksums_is_refused_or_harmless(
  tmp_path, level
):
  """Only user errors, no large allocations, no other contents."""
  values = test_tensor_bundle.values()
  cuts = {"a": 3, "layer_10/kernel": 1}
  items = list(writer.write(tmp_path / "x", values, 2, cuts).items())
  known = {value.tobytes() for value in values.values()}
  index, generator, outcomes = tmp_path / "x.index", random.Random(level), []
  tracemalloc.start()
  for _ in range(200):
    changed, block = list(items), writer.block(items)
    body = writer.sealed(block)
    handle = writer.varint(0) + writer.varint(len(block))
    if level in ("entry", "key"):
      place = generator.randrange(len(items))
      key, value = items[place]
      changed[place] = (
        (key, mutated(generator, value))
        if level == "entry"
        else (mutated(generator, key), value)
      )
      table = writer.table(sorted(changed))
    elif level == "block":
      table = writer.assembled(
        [writer.sealed(mutated(generator, block))], [b"\xff"]
      )
    else:
      lookup = writer.block([(b"\xff", handle)])
      table = writer.with_index(body, mutated(generator, lookup))
    index.write_bytes(table)
    try:
      contents = read_all(tmp_path / "x")
      assert set(contents.values()) <= known
      outcomes.append("read")
    except UserError as error:
      outcomes.append(str(error))
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 2 << 20
  assert len(set(outcomes)) > 8  # Many kinds of damage were met.


def test_other_files_than_an_index_are_refused(tmp_path):
  index = tmp_path / "x.index"
  index.mkdir()
  with user_error(r"x\.index: not a regular file"):
    TensorBundle.open(tmp_path / "x")
  index.rmdir()
  for content in (b"", writer.MAGIC, b"#!/bin/sh\n" * 100):
    index.write_bytes(content)
    with user_error("not the index of a TensorFlow"):
      TensorBundle.open(tmp_path / "x")
  with index.open("wb") as file:
    file.truncate(1 << 40)  # sparse: it takes no disk
  with user_error("1099511627776 bytes"):
    TensorBundle.open(tmp_path / "x")


def one_block(contents):
  return writer.assembled([writer.sealed(contents)], [b"z"])


def one_entry(*numbers):
  return one_block(b"".join(map(writer.varint, numbers)) + NO_RESTARTS)


def keys(*names, in_block=3):
  return writer.table([HEADER, *((key, b"") for key in names)], in_block)


def twice():
  block = writer.block([HEADER])
  handle = writer.varint(0) + writer.varint(len(block))
  lookup = writer.block([(b"a", handle), (b"b", handle)])
  return writer.with_index(writer.sealed(block), lookup)


def itself():
  """An index block that points to itself, with a valid checksum."""
  block = writer.sealed(writer.block([HEADER]))
  start = len(block) + len(writer.sealed(writer.block([])))
  lookup = writer.block([(b"a", writer.varint(start) + writer.varint(14))])
  assert len(lookup) == 14
  return writer.with_index(block, lookup)


NO_RESTARTS = struct.pack("<II", 0, 1)
TABLES = {
  "no entries": (lambda: writer.table([]), "no header|malformed"),
  "no header": (lambda: writer.table([(b"a", b"")]), "no header"),
  "snappy": (lambda: writer.table([HEADER], compression=1), "compressed"),
  "restarts": (
    lambda: one_block(struct.pack("<II", 0, 1 << 31)),
    "restarts beyond the end",
  ),
  "no restarts": (lambda: one_block(b"\0"), "restarts beyond the end"),
  "eleven bytes": (
    lambda: one_block(b"\xff" * 10 + b"\1" + NO_RESTARTS),
    "a number is truncated or too long",
  ),
  "value beyond": (lambda: one_entry(0, 0, 1 << 40), "exceeds its block"),
  "key beyond": (lambda: one_entry(0, (1 << 64) - 1, 1), "exceeds its block"),
  "prefix of nothing": (lambda: one_entry(1, 0, 0), "exceeds its block"),
  "long key": (lambda: keys(b"a" * 1025), "a key of 1025 bytes"),
  "key twice": (lambda: keys(b"a", b"a"), "b'a' is out of order"),
  "two blocks": (lambda: keys(b"a", b"a", in_block=2), "'a' is out of order"),
  "keys fall": (lambda: keys(b"b", b"a"), "b'a' is out of order"),
  "a block twice": (twice, "overlap"),
  "an index of itself": (itself, "no header"),
  "block beyond": (
    lambda: writer.with_index(
      b"", writer.block([(b"a", writer.varint(1 << 40) * 2)])
    ),
    "a block of 1099511627776 bytes at byte 1099511627776 exceeds",
  ),
  "many": (
    lambda: keys(*(b"%06d" % i for i in range(70_000)), in_block=100_000),
    "more than 65536 entries",
  ),
}


@pytest.mark.parametrize("case", TABLES)
def test_malformed_tables_are_refused(tmp_path, case):
  make, message = TABLES[case]
  (tmp_path / "x.index").write_bytes(make())
  with user_error(message) as caught:
    TensorBundle.open(tmp_path / "x")
  assert str(caught.value).startswith(f"{tmp_path / 'x.index'}: ")
