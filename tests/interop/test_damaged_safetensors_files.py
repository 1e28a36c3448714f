import json

import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from bert_jax.interop import safetensors_files
from bert_jax.settings import UserError
from tests.errors import user_error
from tests.interop.test_safetensors_files import (
  TENSORS,
  entry,
  read_all,
  write_raw,
)

LONG = 2**62
DAMAGED = {
  "empty": b"",
  "overlap": {"a": entry(), "b": entry(offsets=(4, 12))},
  "gap": {"a": entry(shape=(1,), offsets=(0, 4)), "b": entry(offsets=(8, 16))},
  "past the end": {"a": entry(shape=(3,), offsets=(0, 12))},
  "before the end": {"a": entry(shape=(1,), offsets=(0, 4))},
  "backwards": {"a": entry(offsets=(8, 0))},
  "one place for two": {"a": entry(), "b": entry()},
  "overflow": {"a": entry(shape=(2**33, 2**33))},
  "overflow to nothing": {"a": entry(shape=(LONG, 4), offsets=(0, 0))},
  "nothing, but long": {
    "a": entry(),
    "b": entry(shape=(0, LONG), offsets=(8, 8)),
  },
  "axes": {"a": entry(shape=(1,) * 70 + (2,))},
  "many axes of nothing": {
    "a": entry(),
    "b": entry(shape=(0,) + (LONG,) * 100_000, offsets=(8, 8)),
  },
  "unknown type": {"a": entry("Q7")},
  "negative": {"a": entry(shape=(-2,))},
  "negative offset": {"a": entry(offsets=(-8, 0))},
  "no integer": {"a": entry(shape=(2.0,))},
  "long integer": {"a": entry(shape=(10**100,))},
  "no number": b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,8]}}',
  "no entry": {"a": 3},
  "no object": [entry()],
  "not all": {"a": {"dtype": "F32", "shape": [2]}},
  "metadata": {"__metadata__": entry(), "a": entry()},
  "nested": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
  "no UTF-8": b'{"\xff":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
  "half a pair": {"\ud800": entry()},
  "twice": b'{"a":%b,"a":%b}'
  % (json.dumps(entry("I32")).encode(), json.dumps(entry()).encode()),
  "more": json.dumps({"a": entry()}).encode() + b"}",
}


@pytest.mark.parametrize("header", DAMAGED.values(), ids=DAMAGED)
def test_malformed_headers_are_refused(tmp_path, header):
  path = tmp_path / "model.safetensors"
  write_raw(path, header)
  with user_error() as caught:
    safetensors_files.open_folder(tmp_path)
  assert str(caught.value).startswith(f"{path}: ")
  assert len(str(caught.value)) < len(str(path)) + 400


@pytest.mark.parametrize("length", [10**4, 25_000_001, 2**63, 2**64 - 1])
def test_invalid_header_lengths_are_refused(tmp_path, length):
  write_raw(tmp_path / "model.safetensors", {"a": entry()}, length=length)
  with user_error("damaged safetensors file"):
    safetensors_files.open_folder(tmp_path)


@given(data=st.data())
def test_corrupt_files_are_refused_or_harmless(tmp_path_factory, data):
  folder = tmp_path_factory.mktemp("damaged")
  path = folder / "model.safetensors"
  safetensors.numpy.save_file(TENSORS, path)
  content = bytearray(path.read_bytes())
  length = int.from_bytes(content[:8], "little")
  for _ in range(data.draw(st.integers(1, 3))):
    content[data.draw(st.integers(0, length + 7))] = data.draw(
      st.integers(0, 255)
    )
  path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
  try:
    tensors = read_all(folder)
  except UserError as error:
    assert str(error).startswith(f"{path}: ")
  else:
    assert sum(a.nbytes for a in tensors.values()) <= len(content)


def damaged_index(weight_map):
  return json.dumps({"weight_map": weight_map}).encode()


@pytest.mark.parametrize(
  ("index", "message"),
  [
    (b"", "damaged JSON"),
    (b"\xff{}", "invalid UTF-8"),
    (b"[" * 100_000, "damaged JSON"),
    (b"[]", "expected a JSON object"),
    (b"{}", "expected a weight_map"),
    (damaged_index([]), "expected a weight_map"),
    (damaged_index({}), "expected a weight_map"),
    (damaged_index({"a": 1}), "expected the name of a .safetensors file"),
    (damaged_index({"a": "../1.safetensors"}), "expected the name"),
    (damaged_index({"a": "/tmp/1.safetensors"}), "expected the name"),
    (damaged_index({"a": "b/1.safetensors"}), "expected the name"),
    (damaged_index({"a": ".."}), "expected the name"),
    (damaged_index({"a": "1.bin"}), "expected the name"),
    (damaged_index({"a": "\0.safetensors"}), "expected the name"),
    (damaged_index({"a": "\ud800.safetensors"}), "expected the name"),
    (damaged_index({"a": "1" * 300 + ".safetensors"}), "name too long"),
    (damaged_index({"a": "2.safetensors"}), "2.safetensors: No such file"),
    (damaged_index({"b": "1.safetensors"}), "'b' is not in 1.safetensors"),
    (
      damaged_index({"b": "1.safetensors", "a": "3.safetensors"}),
      "'a' is also in 1.safetensors",
    ),
  ],
)
def test_malformed_shard_indices_are_refused(tmp_path, index, message):
  write_raw(tmp_path / "1.safetensors", {"a": entry()})
  write_raw(tmp_path / "3.safetensors", {"a": entry()})
  (tmp_path / "model.safetensors.index.json").write_bytes(index)
  with user_error(message) as caught:
    safetensors_files.open_folder(tmp_path)
  assert len(str(caught.value)) < 900
