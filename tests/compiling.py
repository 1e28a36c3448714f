"""Compiling takes nearly all the time of tests whose models are tiny."""

import contextlib
import os

import jax
from jax.experimental.compilation_cache import compilation_cache

# What JAX has by itself.
_SECONDS = 1.0
CHEAP_FLAGS = (
  "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)


@contextlib.contextmanager
def cheaply(folder):
  """Compiles with few optimisations, and each program only once.

  Args:
    folder: where compiled programs are kept for further tests.
  """
  _set(True, str(folder), 0.0)
  try:
    yield
  finally:
    _set(False, None, _SECONDS)


def _set(few_optimisations, folder, seconds):
  compilation_cache.reset_cache()
  jax.config.update("jax_disable_most_optimizations", few_optimisations)
  jax.config.update("jax_compilation_cache_dir", folder)
  jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


def kept_in(folder):
  """The environment of processes that keep all that they compile there."""
  return {
    "JAX_COMPILATION_CACHE_DIR": str(folder),
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    # Of every program that was kept XLA tells 3 kB about this machine.
    "TF_CPP_MIN_LOG_LEVEL": "3",
  }


def simulated(devices):
  """The environment of a process with so many devices that compiles cheaply."""
  flags = f"--xla_force_host_platform_device_count={devices}"
  return {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": f"{flags} {CHEAP_FLAGS}",
  }
