import os
import time

from tests.commands import python

COMPILES = """
from launch import process
process.set_up()
import jax
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
print(jax.jit(lambda x: x + 1)(1))
"""


def run(home, **variables):
  """What a command that compiles prints; its cache is in this folder."""
  env = {**os.environ, "JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": str(home)}
  for name in ("JAX_COMPILATION_CACHE_DIR", "TF_CPP_MIN_LOG_LEVEL"):
    env.pop(name, None)
  return python(COMPILES, env={**env, **variables})


def kept(home):
  return {path: path.stat().st_mtime_ns for path in home.rglob("jit_*-cache")}


def test_what_was_compiled_is_kept_for_a_month(tmp_path):
  run(tmp_path)
  programs = kept(tmp_path)
  assert programs
  again = run(tmp_path)
  assert kept(tmp_path) == programs
  assert (again.stdout, again.stderr) == ("2\n", "")
  month_ago = time.time() - 31 * 86_400
  for path in programs:
    os.utime(path, (month_ago, month_ago))
  run(tmp_path)
  anew = kept(tmp_path)
  assert set(anew) == set(programs)
  assert min(anew.values()) > month_ago * 1e9
  for path in anew:
    path.write_bytes(path.read_bytes()[:100])  # Damaged: it is compiled anew.
  assert run(tmp_path).stdout == "2\n"


def test_where_jax_is_told_to_if_it_is_told(tmp_path):
  own = tmp_path / "own"
  run(tmp_path / "home", JAX_COMPILATION_CACHE_DIR=str(own))
  assert kept(own)
  assert not (tmp_path / "home").exists()


def test_nowhere_if_the_folder_cannot_be_made(tmp_path):
  home = tmp_path / "file"
  home.touch()
  assert run(home).stdout == "2\n"
