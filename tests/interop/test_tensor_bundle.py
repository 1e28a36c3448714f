"""TensorFlow checkpoints: valid, corrupt and malicious."""

import base64
import tracemalloc
import zlib

import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.interop.tensorflow.tensor_bundle import TensorBundle
from tests.errors import user_error
from tests.interop import bundle_writer as writer

# Written by TensorFlow 2.21: `tf.compat.v1.train.Saver(sharded=True)` with the
# variables of TENSORS on two CPU devices, `cut` made by
# `fixed_size_partitioner(2)`, and `text`, a variable of strings.
TENSORFLOW = {
  "index": (
    "c-muNVB=ttV&Y(A;1Oj=E-hhTWMpb+YG~qM6ygwK;$Q+{2}TV8Q)TnhyE$0In;PMAj1V~m"
    "0Syk*Ukru84D!NBsYNCFskuq1DJhwG>Baix`9&%52tHIJ3lKAF7?@sP7J7$)Sp{e-RDu~|"
    "q7?@hlK>M4TXAu*a4-olg4hh){OLLQNr^e}#U-f)9GpT7K)WS?cJIDEUyy-CFe5Q1je}1J"
    "WH^(8fd-4Io>$l>1{UFx)QS=gc8EAohk^#D>B}c(tqefG2qI3fXHJ824t!d;fq{{^l%bIc"
    "E_Ud)-|jXhj>$~?3<N>=?}l!bQuo^c!BaiN"
  ),
  "data-00000-of-00002": (
    "c-muN0D%U3AmIQ+K->Vt3xN0l5I+E721f=40U%ZYVgttm_6!FAx3CCf"
  ),
  "data-00001-of-00002": "c-muNXs~BM!43`}%+3G-j7<CQ->ynbN(KOlr3fG",
}
TENSORS = {
  "bert/embeddings/word_embeddings": np.arange(12, dtype=np.float32).reshape(
    4, 3
  ),
  "cut": np.array([[1, 1], [1, 1], [3, 3]], np.float32),
  "global_step": np.array(7, np.int64),
  "half": np.array([1.5, -2], jnp.bfloat16),
}


def write_tensorflows(folder):
  for ending, text in TENSORFLOW.items():
    content = zlib.decompress(base64.b85decode(text))
    (folder / f"tiny.ckpt.{ending}").write_bytes(content)
  return folder / "tiny.ckpt"


def assert_same(found, expected):
  assert found.dtype == expected.dtype
  assert found.shape == expected.shape
  assert found.tobytes() == expected.tobytes()


def values():
  rng = np.random.default_rng(0)
  return {
    "a": rng.normal(size=(7, 3)).astype(np.float32),
    "empty": np.zeros((0, 4), np.float32),
    "flags": np.array([True, False, True]),
    "half": rng.normal(size=5).astype(jnp.bfloat16),
    "layer_0/kernel": rng.normal(size=(2, 3, 4)).astype(np.float32),
    "layer_0/kernel/adam_m": rng.normal(size=(2, 3, 4)).astype(np.float32),
    "layer_10/kernel": np.arange(6, dtype=np.int32),
    "step": np.array(-5, np.int64),
    "Ünï/日本": np.float32([np.nan, -np.inf, -0.0]),
  }


def test_reading_a_checkpoint_of_tensorflow(tmp_path):
  bundle = TensorBundle.open(write_tensorflows(tmp_path))
  assert set(bundle.shapes) == {*TENSORS, "text"}
  for name, expected in TENSORS.items():
    assert bundle.shapes[name] == (expected.shape, expected.dtype)
    assert_same(bundle.read(name), expected)


def test_strings_are_listed_but_not_read(tmp_path):
  bundle = TensorBundle.open(write_tensorflows(tmp_path))
  assert bundle.shapes["text"] == ((2,), np.dtype(object))
  with user_error("expected 'text' to have one of the dtypes float32"):
    bundle.read("text")


@pytest.mark.parametrize("shards", [1, 2, 5])
def test_dtypes_shapes_shards_and_slices(tmp_path, shards):
  expected = values()
  cuts = {"a": 3, "layer_10/kernel": 1}
  writer.write(tmp_path / "x.ckpt", expected, shards, cuts)
  bundle = TensorBundle.open(tmp_path / "x.ckpt")
  assert set(bundle.shapes) == set(expected)
  for name, value in expected.items():
    assert_same(bundle.read(name), value)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 4000, 8000])
def test_slices_with_multi_byte_offsets(tmp_path, rows):
  expected = np.arange(8190 if rows > 1 else 300, dtype=np.float32)
  writer.write(tmp_path / "x", {"a": expected}, cuts={"a": rows})
  assert_same(TensorBundle.open(tmp_path / "x").read("a"), expected)


def test_arrays_are_writable(tmp_path):
  writer.write(tmp_path / "x", values())
  bundle = TensorBundle.open(tmp_path / "x")
  bundle.read("a")[:] = 0
  assert_same(bundle.read("a"), values()["a"])


def test_an_unknown_name_is_a_key_error(tmp_path):
  writer.write(tmp_path / "x", values())
  with pytest.raises(KeyError):
    TensorBundle.open(tmp_path / "x").read("b")


def test_one_tensor_at_a_time_is_in_memory(tmp_path):
  megabytes = {
    name: np.ones((1 << 18,), np.float32) for name in ("a", "b", "c", "d")
  }
  writer.write(tmp_path / "x", megabytes)
  tracemalloc.start()
  bundle = TensorBundle.open(tmp_path / "x")
  for name in bundle.shapes:
    bundle.read(name)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert peak < 1.5 * (1 << 20)


def test_missing_data_files_are_named(tmp_path):
  with user_error(r"x\.index: No such file"):
    TensorBundle.open(tmp_path / "x")
  writer.write(tmp_path / "x", values(), shards=2)
  missing = tmp_path / "x.data-00001-of-00002"
  missing.unlink()
  with user_error(r"00001-of-00002: No such file"):
    TensorBundle.open(tmp_path / "x")
  missing.mkdir()
  with user_error("00001-of-00002: not a regular file"):
    TensorBundle.open(tmp_path / "x")


def test_a_flipped_bit_fails_the_checksum(tmp_path):
  writer.write(tmp_path / "x", {"a": np.ones(9, np.float32)})
  data = tmp_path / "x.data-00000-of-00001"
  for bit in range(0, 9 * 32, 7):
    content = bytearray(np.ones(9, np.float32).tobytes())
    content[bit // 8] ^= 1 << bit % 8
    data.write_bytes(content)
    with user_error("00000-of-00001: wrong checksum of 'a'"):
      TensorBundle.open(tmp_path / "x").read("a")


def test_invalid_booleans_are_refused(tmp_path):
  place = (0, 0, 2, writer.checksum(b"\1\2"))
  items = {b"": writer.header(), b"a": writer.entry(10, (2,), *place)}
  (tmp_path / "x.index").write_bytes(writer.table(items.items()))
  (tmp_path / "x.data-00000-of-00001").write_bytes(b"\1\2")
  with user_error("'a' has a boolean that is not 0 or 1"):
    TensorBundle.open(tmp_path / "x").read("a")


def test_truncated_data_files_are_refused(tmp_path):
  writer.write(tmp_path / "x", values())
  bundle = TensorBundle.open(tmp_path / "x")
  data = tmp_path / "x.data-00000-of-00001"
  data.write_bytes(data.read_bytes()[:-1])
  with user_error("truncated since it was opened"):
    bundle.read("Ünï/日本")
  with user_error(r"00001: ends at byte .* truncated"):
    TensorBundle.open(tmp_path / "x")


def entry(dtype=1, shape=(2,), shard=0, offset=0, size=8, **rest):
  return writer.entry(dtype, shape, shard, offset, size, **rest)


SLICES = [[(0, 1), (0, 2)], [(1, 2), (0, 2)]]


def sliced(slices, shape=(3, 2), stored=SLICES):
  """A tensor that lists `slices`, with entries for `stored`."""
  items = {name: entry(shape=(0,), size=0) for name in (b"b", b"c")}
  items[b"a"] = entry(shape=shape, size=0, slices=slices)
  offset = 0
  for cut in stored:
    lengths = [length for _, length in cut]
    size = 4 * int(np.prod(lengths))
    items[writer.slice_key(b"a", cut)] = entry(
      shape=lengths, offset=offset, size=size
    )
    offset += size
  return items


# Items of an index over 64 bytes of data, and the expected messages.
MALFORMED = {
  "header": ({b"": writer.header(endianness=1)}, "big-endian"),
  "version": ({b"": writer.header(min_consumer=2)}, "reader of version 2"),
  "no shards": ({b"": writer.header(0)}, "0 data files"),
  "negative shards": ({b"": writer.header(-1)}, "-1 data files"),
  "not a proto": ({b"a": b"\xff" * 11}, "entry of b'a' is malformed"),
  "header not a proto": ({b"": b"\x08"}, "entry of b'' is malformed"),
  "name": ({b"\xff\xfe": entry()}, "not UTF-8"),
  "shard": ({b"a": entry(shard=1)}, "data file 1 of 1"),
  "negative shard": ({b"a": entry(shard=-1)}, "data file -1 of 1"),
  "offset": ({b"a": entry(offset=60)}, "ends at byte 64, but b'a' at byte 68"),
  "far offset": ({b"a": entry(offset=(1 << 63) - 8)}, "ends at byte 64"),
  "negative offset": ({b"a": entry(offset=-8)}, "8 bytes at byte -8"),
  "size": ({b"a": entry(size=12)}, "has 12 bytes; expected 8"),
  "negative size": ({b"a": entry(dtype=7, size=-1)}, "-1 bytes at byte 0"),
  "large": (
    {b"a": entry(shape=(1 << 38,), size=1 << 40)},
    "ends at byte 64, but b'a' at byte 1099511627776",
  ),
  "strings beyond": ({b"a": entry(dtype=7, size=65)}, "at byte 65"),
  "negative axis": ({b"a": entry(shape=(-1, -2))}, "impossible shape"),
  "overflow": ({b"a": entry(shape=(1 << 62, 4, 4), size=0)}, "impossible"),
  "empty but large": ({b"a": entry(shape=(0, 1 << 62), size=0)}, "impossible"),
  "axes": ({b"a": entry(shape=(1,) * 33, size=4)}, "over 32 axes"),
  "rank": (
    {b"a": writer.number(1, 1) + writer.message(2, writer.number(3, 1))},
    "unknown rank",
  ),
  "overlap": ({b"a": entry(), b"b": entry(offset=4)}, "b'b' overlaps another"),
  "inside": (
    {b"a": entry(shape=(8,), size=32), b"b": entry(offset=8)},
    "overlaps another tensor",
  ),
  "slice missing": (sliced(SLICES, stored=SLICES[:1]), "no entry for its slic"),
  "slice twice": (sliced([*SLICES, SLICES[0]]), "do not cover it exactly once"),
  "slices too many": (sliced(SLICES * 3), "do not cover it exactly once"),
  "slices too few": (sliced(SLICES[:1]), "do not cover it exactly once"),
  "gap": (sliced(SLICES, shape=(4, 2)), "do not cover it exactly once"),
  "slice of more axes": (sliced(SLICES, shape=(3,)), "differs from its slice"),
  "grid": (
    sliced(
      grid := [[(i, 1), (j, 1)] for i in (0, 1) for j in (0, 1)], (2, 2), grid
    ),
    "do not cover it exactly once",
  ),
  "slice of another type": (
    sliced(SLICES) | {writer.slice_key(b"a", SLICES[0]): entry(3)},
    "differs from its slice",
  ),
  "negative slice": (sliced([[(-1, 1), (0, 2)]]), "no entry for its slice"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_entries_are_refused(tmp_path, case):
  items, message = MALFORMED[case]
  items = {b"": writer.header()} | items
  (tmp_path / "x.data-00000-of-00001").write_bytes(bytes(64))
  index = tmp_path / "x.index"
  index.write_bytes(writer.table(sorted(items.items())))
  with user_error(message) as caught:
    TensorBundle.open(tmp_path / "x")
  assert str(tmp_path) in str(caught.value)
