"""Compilation takes most of the time of tests whose models are tiny.

All tests of a run, its xdist workers and the processes that they start compile
with few optimizations, and share one compilation cache.
"""

import contextlib
import os
import pathlib

import jax
import pytest
from jax.experimental.compilation_cache import compilation_cache

# JAX's own default is 1.
_CACHE_SECONDS = 0.1


def environment(folder):
  """Variables by which processes compile as `cheaply` does."""
  return {
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
    "JAX_COMPILATION_CACHE_DIR": str(folder),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": str(_CACHE_SECONDS),
    # XLA logs 3 kB about this machine for each program read from the cache.
    "TF_CPP_MIN_LOG_LEVEL": "3",
  }


def cache_folder(request, tmp_path_factory):
  """The compilation cache of this run of the tests, shared by its workers."""
  base = pathlib.Path(tmp_path_factory.getbasetemp())
  is_worker = hasattr(request.config, "workerinput")
  return (base.parent if is_worker else base) / "compilation_cache"


@contextlib.contextmanager
def cheaply(folder):
  """Compiles with few optimizations, in this process and those it starts."""
  with pytest.MonkeyPatch.context() as patch:
    for name, value in environment(folder).items():
      patch.setenv(name, value)
    _set(True, str(folder), _CACHE_SECONDS)
    yield
    _set(False, None, 1.0)


@contextlib.contextmanager
def as_by_default():
  """Compiles as JAX does by default, without a compilation cache."""
  _set(False, None, 1.0)
  yield
  _set(True, os.environ["JAX_COMPILATION_CACHE_DIR"], _CACHE_SECONDS)


def _set(few_optimizations, folder, seconds):
  compilation_cache.reset_cache()
  jax.config.update("jax_disable_most_optimizations", few_optimizations)
  jax.config.update("jax_compilation_cache_dir", folder)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


def simulated(devices):
  """The environment of a process with so many simulated devices."""
  env = {**os.environ, "JAX_PLATFORMS": "cpu"}
  if devices > 1:  # The key of a cached program has these flags in it.
    env["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={devices}"
  return env
