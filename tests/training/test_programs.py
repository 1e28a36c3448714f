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
  (path,) = kept(home)
  with monkeypatch.context() as patched:
    patched.setattr(jax.stages.Lowered, "compile", no_compiler)
    found = CachedFunction(function)(X)
    with pytest.raises(AssertionError, match="compiled"):
      CachedFunction(lambda x: {"out": x, "sum": x.sum()})(X)
  assert jax.tree.map(np.array_equal, found, expected) == {
    "out": True,
    "sum": True,
  }
  path.write_bytes(path.read_bytes()[:-1])  # Damaged: it is compiled anew.
  np.testing.assert_array_equal(
    CachedFunction(function)(X)["out"], expected["out"]
  )
  assert capfd.readouterr().err == ""


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
