import ast
import json
import os
import shlex
import tracemalloc

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from bert_jax.interop import safetensors_files
from tests.commands import python
from tests.errors import user_error

TENSORS = {
  "b": np.arange(6, dtype=np.float32).reshape(2, 3),
  "a.weight": np.array(-1.5, np.float64),
  "half": np.array([1, 2], np.float16),
  "brain": np.array([[1.5, -2]], ml_dtypes.bfloat16),
  "long": np.array([2**62, -1], np.int64),
  "byte": np.arange(5, dtype=np.uint8),
  "truth": np.array([True, False, True]),
  "nothing": np.zeros((0, 3), np.int32),
  "é 😀\n": np.ones(1, np.int8),
}


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
  return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def write_raw(path, header, data=bytes(8), length=None):
  if not isinstance(header, bytes):
    header = json.dumps(header).encode()
  length = len(header) if length is None else length
  path.write_bytes(length.to_bytes(8, "little") + header + data)


def read_all(folder):
  opened = safetensors_files.open_folder(folder)
  return {name: opened.read(name) for name in opened.shapes}


def check_equal(given, expected):
  assert given.keys() == expected.keys()
  for name, tensor in expected.items():
    assert given[name].dtype == tensor.dtype
    np.testing.assert_array_equal(given[name], tensor, strict=True)


def test_reading_files_of_the_safetensors_library(tmp_path):
  path = tmp_path / "model.safetensors"
  safetensors.numpy.save_file(TENSORS, path, {"format": "pt"})
  check_equal(read_all(tmp_path), TENSORS)
  opened = safetensors_files.open_folder(tmp_path)
  for name, tensor in TENSORS.items():
    assert opened.shapes[name] == (tensor.shape, tensor.dtype)
    array = opened.read(name)
    assert array.ctypes.data % 64 == 0 or not array.size
    assert array.flags.writeable
    array[...] = 0
  check_equal(read_all(tmp_path), TENSORS)
  with pytest.raises(KeyError):
    opened.read("c")


def test_the_safetensors_library_reads_written_files(tmp_path):
  folder = tmp_path / "new" / "folder"
  safetensors_files.write_folder(folder, TENSORS)
  path = folder / "model.safetensors"
  # The library knows bfloat16 only where ml_dtypes is imported, as here.
  check_equal(safetensors.numpy.load_file(path), TENSORS)
  with safetensors.safe_open(path, "np") as file:
    assert file.metadata() == {"format": "pt"}
  check_equal(read_all(folder), TENSORS)
  assert list(folder.iterdir()) == [path]


def test_written_bytes_equal_those_of_the_library(tmp_path):
  tensors = {f"layer.{i}": np.full((i, 3), i, np.float32) for i in range(12)}
  safetensors_files.write_folder(tmp_path, tensors)
  assert (
    tmp_path / "model.safetensors"
  ).read_bytes() == safetensors.numpy.save(tensors, {"format": "pt"})


def test_strided_views_are_written_in_row_major_order(tmp_path):
  square = np.arange(12, dtype=np.float32).reshape(3, 4)
  views = {"turned": square.T, "strided": square[:, ::2], "back": square[::-1]}
  safetensors_files.write_folder(tmp_path, views)
  check_equal(read_all(tmp_path), views)


def test_writing_is_atomic(tmp_path):
  safetensors_files.write_folder(tmp_path, {"a": np.ones(2)})
  before = (tmp_path / "model.safetensors").read_bytes()

  class Failing(dict):
    count = 0

    def __getitem__(self, name):
      Failing.count += 1
      if Failing.count == 2:
        raise RuntimeError("no more")
      return super().__getitem__(name)

  with pytest.raises(RuntimeError, match="no more"):
    safetensors_files.write_folder(
      tmp_path, Failing(a=np.zeros(10_000), b=np.zeros(10_000))
    )
  with pytest.raises(ValueError, match="'a': the dtype complex64"):
    safetensors_files.write_folder(tmp_path, {"a": np.ones(2, np.complex64)})
  assert [p.read_bytes() for p in tmp_path.iterdir()] == [before]
  safetensors_files.write_folder(tmp_path, TENSORS)
  check_equal(read_all(tmp_path), TENSORS)


def test_one_tensor_at_a_time_is_in_memory(tmp_path):
  size = 1_000_000
  wide = np.ones((1000, 250), np.float32)
  tensors = {f"layer.{i}": wide.T for i in range(10)}
  tracemalloc.start()
  try:
    safetensors_files.write_folder(tmp_path, tensors)
    _, written = tracemalloc.get_traced_memory()
    tracemalloc.reset_peak()
    opened = safetensors_files.open_folder(tmp_path)
    for name in opened.shapes:
      opened.read(name)
    _, read = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert size < written < 1.5 * size
  assert size < read < 2.5 * size  # The next is read while one is held.


def test_reading_leaves_no_memory_mapped_pages(tmp_path):
  tensors = {f"{i}": np.ones((4, 1000, 1000), np.float32) for i in range(10)}
  safetensors_files.write_folder(tmp_path, tensors)
  script = """
import pathlib, re, sys
from bert_jax.interop import safetensors_files
def peak():
  status = pathlib.Path("/proc/self/status").read_text()
  return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) * 1024
before = peak()
opened = safetensors_files.open_folder(pathlib.Path(sys.argv[1]))
arrays = [opened.read(name) for name in opened.shapes]
print((peak() - before) / sum(array.nbytes for array in arrays))
"""
  assert 0.9 < float(python(script, tmp_path).stdout) < 1.1


def test_shards(tmp_path):
  names = sorted(TENSORS)
  shards = {"one.safetensors": names[:4], "two.safetensors": names[4:]}
  for shard, listed in shards.items():
    tensors = {name: TENSORS[name] for name in listed}
    safetensors.numpy.save_file(tensors, tmp_path / shard)
  weight_map = {n: s for s, listed in shards.items() for n in listed}
  index = {"metadata": {"total_size": 8}, "weight_map": weight_map}
  path = tmp_path / "model.safetensors.index.json"
  path.write_text(json.dumps(index))
  check_equal(read_all(tmp_path), TENSORS)
  # As in Transformers, a single file has precedence over shards.
  safetensors_files.write_folder(tmp_path, {"a": np.ones(2)})
  check_equal(read_all(tmp_path), {"a": np.ones(2)})


def test_symbolic_links_of_the_hub_cache(tmp_path):
  folder = tmp_path / "snapshots" / "1"
  folder.mkdir(parents=True)
  safetensors.numpy.save_file(TENSORS, tmp_path / "blob")
  (folder / "model.safetensors").symlink_to("../../blob")
  check_equal(read_all(folder), TENSORS)
  # Writing replaces the link by a file; the blob is unchanged.
  safetensors_files.write_folder(folder, {"a": np.ones(2)})
  check_equal(safetensors.numpy.load_file(tmp_path / "blob"), TENSORS)
  (folder / "model.safetensors").unlink()
  (folder / "model.safetensors").symlink_to("../../gone")
  with user_error(r"model\.safetensors: No such file"):
    safetensors_files.open_folder(folder)


def test_invalid_booleans_are_true(tmp_path):
  header = {"a": entry("BOOL", (8,))}
  write_raw(tmp_path / "model.safetensors", header, bytes([0, 1, 2, 255] * 2))
  array = safetensors_files.open_folder(tmp_path).read("a")
  assert array.view(np.uint8).tolist() == [0, 1, 1, 1] * 2


@pytest.mark.parametrize("code", ["F8_E4M3", "F8_E5M2"])
def test_unsupported_dtypes_are_listed_but_not_read(tmp_path, code):
  header = {"a": entry(code, (8,)), "b": entry("I64", (1,), (8, 16))}
  write_raw(tmp_path / "model.safetensors", header, bytes(16))
  opened = safetensors_files.open_folder(tmp_path)
  assert opened.shapes["a"] == ((8,), np.dtype(np.void))
  assert opened.read("b").tolist() == [0]
  with user_error(f"'a' has the dtype {code}; expected one"):
    opened.read("a")


def test_a_file_truncated_or_removed_after_opening(tmp_path):
  safetensors_files.write_folder(tmp_path, {"a": np.ones(1000)})
  opened = safetensors_files.open_folder(tmp_path)
  os.truncate(tmp_path / "model.safetensors", 1000)
  with user_error("truncated in the middle of 'a'"):
    opened.read("a")
  (tmp_path / "model.safetensors").unlink()
  with user_error(r"model\.safetensors: No such file"):
    opened.read("a")


@pytest.mark.parametrize(
  ("names", "message"),
  [
    (["config.json", "pytorch_model.bin"], "found only pytorch_model.bin"),
    (["pytorch_model.bin.index.json"], "found pytorch_model.bin.index.json"),
    (["tf_model.h5"], "TensorFlow and Transformers 4 is installed"),
    (["flax_model.msgpack", "config.json"], "from_flax=True"),
    (["last.ckpt"], "load it with the code that wrote it"),
    (["weights.pt", "training_args.bin"], "load it with the code"),
    (["config.json", "README.md"], "found README.md, config.json"),
    ([], "found nothing"),
  ],
)
def test_folders_without_safetensors_are_refused(tmp_path, names, message):
  for name in names:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
  with user_error() as caught:
    safetensors_files.open_folder(tmp_path)
  assert str(caught.value).startswith(f"{tmp_path}: expected model.safetensors")
  assert message in str(caught.value)


def test_the_conversion_command_is_quoted_for_the_shell(tmp_path):
  folder = tmp_path / """it's "my" $HOME `x` folder"""
  folder.mkdir()
  (folder / "pytorch_model.bin").touch()
  with user_error() as caught:
    safetensors_files.open_folder(folder)
  message = str(caught.value)
  _, _, code = shlex.split(message[message.index("python -c") :])
  calls = [
    node.args[0].value
    for node in ast.walk(ast.parse(code))
    if isinstance(node, ast.Call) and node.args
    if isinstance(node.args[0], ast.Constant)
  ]
  assert calls == [str(folder)] * 3


def test_pickles_next_to_safetensors_are_ignored(tmp_path):
  (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n")
  safetensors_files.write_folder(tmp_path, TENSORS)
  check_equal(read_all(tmp_path), TENSORS)


def test_special_files_are_refused(tmp_path):
  with user_error("No such file"):
    safetensors_files.open_folder(tmp_path / "missing")
  path = tmp_path / "model.safetensors"
  path.mkdir()
  with user_error("not a regular file"):
    safetensors_files.open_folder(tmp_path)
  path.rmdir()
  os.mkfifo(path)
  with user_error("not a regular file"):
    safetensors_files.open_folder(tmp_path)
