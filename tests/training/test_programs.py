import errno
import functools
import hashlib
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bert_jax.training.programs import CachedFunction

X = jnp.linspace(0, 1, 64).reshape(8, 8)


def function(x):
  return {"out": jnp.tanh(x @ x), "sum": x.sum()}


@pytest.fixture
def home(tmp_path, monkeypatch):
  """The cache's folder, where JAX's own cache has none."""
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
  before = jax.config.jax_compilation_cache_dir
  jax.config.update("jax_compilation_cache_dir", None)
  yield tmp_path
  jax.config.update("jax_compilation_cache_dir", before)


def kept(home):
  return {*home.rglob("*-program")}


def no_compiler(*_):
  raise AssertionError("compiled")


def test_a_program_outlives_its_function(home, monkeypatch, capfd):
  expected = CachedFunction(function)(X)
  assert len(kept(home)) == 1
  with monkeypatch.context() as patched:
    patched.setattr(jax.stages.Lowered, "compile", no_compiler)
    found = CachedFunction(function)(X)
    with pytest.raises(AssertionError, match="compiled"):
      CachedFunction(lambda x: {"out": x, "sum": x.sum()})(X)
  assert jax.tree.map(np.array_equal, found, expected) == {
    "out": True,
    "sum": True,
  }
  assert capfd.readouterr().err == ""


@pytest.mark.parametrize("keeps_checksum", [False, True])
def test_a_damaged_program_is_compiled_anew(home, keeps_checksum):
  expected = CachedFunction(function)(X)
  (path,) = kept(home)
  whole = path.read_bytes()
  data = whole[32:-1]
  checksum = hashlib.sha256(data).digest() if keeps_checksum else whole[:32]
  path.write_bytes(checksum + data)
  np.testing.assert_array_equal(
    CachedFunction(function)(X)["out"], expected["out"]
  )
  assert path.read_bytes()[32:] != data  # It is replaced.


def test_functions_of_other_arguments_or_constants_have_other_programs(home):
  large = np.arange(5000, dtype=np.float32)
  found = [
    float(CachedFunction(f)(jnp.float32(2), jnp.float32(3)))
    for f in (lambda x, y: x, lambda x, y: y) * 2
  ]
  assert found == [2, 3, 2, 3]
  for last in (1, 2):
    times = functools.partial(jnp.multiply, np.append(large, last))
    assert CachedFunction(times)(jnp.float32(3))[-1] == last * 3
  assert len(kept(home)) == 4


def test_fixed_arguments_come_first(home):
  from_three = CachedFunction(jnp.subtract, jnp.float32(3))
  assert from_three(jnp.float32(1)) == 2
  np.testing.assert_array_equal(from_three(X), 3 - X)


def test_each_shape_and_setting_has_its_program(home):
  cached = CachedFunction(function)
  for _ in range(2):
    cached(X)
    cached(X[:4, :4])
    with jax.default_matmul_precision("highest"):
      cached(X)
  assert len(kept(home)) == 3


def test_none_is_kept_where_jax_keeps_them_or_shall_not(home):
  jax.config.update("jax_compilation_cache_dir", str(home / "own"))
  CachedFunction(function)(X)
  jax.config.update("jax_compilation_cache_dir", None)
  jax.config.update("jax_enable_compilation_cache", False)
  try:
    CachedFunction(function)(X)
  finally:
    jax.config.update("jax_enable_compilation_cache", True)
  assert not kept(home)


def test_a_folder_that_cannot_be_written_does_no_harm(home, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null")
  assert CachedFunction(function)(X)["out"].shape == (8, 8)


def test_a_full_disk_does_no_harm(home, monkeypatch):
  def fill(path, data):
    path.touch()
    raise OSError(errno.ENOSPC, "No space left on device")

  monkeypatch.setattr(pathlib.Path, "write_bytes", fill)
  assert CachedFunction(function)(X)["out"].shape == (8, 8)
  assert not [path for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("change", ["jax", "flags", "settings"])
def test_another_library_or_setting_has_another_program(
  home, monkeypatch, change
):
  CachedFunction(function)(X)
  if change == "jax":
    monkeypatch.setattr(jax, "__version__", "0.0.0")
  elif change == "flags":
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
  else:
    jax.config.update("jax_debug_nans", True)
  try:
    CachedFunction(function)(X)
  finally:
    jax.config.update("jax_debug_nans", False)
  assert len(kept(home)) == 2


def test_a_failed_compilation_is_tried_again(home, monkeypatch):
  cached = CachedFunction(function)
  with monkeypatch.context() as patched:
    patched.setattr(jax.stages.Lowered, "compile", no_compiler)
    with pytest.raises(AssertionError, match="compiled"):
      cached(X)
  np.testing.assert_array_equal(cached(X)["sum"], X.sum())
