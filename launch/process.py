"""Settings of a process that runs one command: memory, compilation cache."""

import ctypes
import faulthandler
import gc
import glob
import importlib.util
import os
import sys
from collections.abc import Mapping

from bert_jax.storage import compiled

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -3, -4, -8
# Of Google's drivers (older and newer), and of NVIDIA's and AMD's.
_TPUS = ("/dev/accel*", "/dev/vfio/[0-9]*")
_GPUS = ("/dev/nvidia[0-9]*", "/dev/kfd")
_PLATFORMS = "JAX_PLATFORMS"
_CACHE = "JAX_COMPILATION_CACHE_DIR"


def set_up() -> None:
  """Sets up malloc, the compilation cache and crash reports.

  Garbage is not collected until `end_imports`: imports make many objects and
  hardly any garbage. To be called before jax is imported and before there are
  threads.
  """
  faulthandler.enable()
  _leave_out_tpus()
  keep_memory()
  _keep_programs()
  gc.disable()


def end_imports() -> None:
  """Collects garbage from now on, but not among what was imported."""
  if not gc.isenabled():
    gc.freeze()
    gc.enable()


def keep_memory() -> None:
  """Makes glibc keep freed memory, for computations on the CPU.

  XLA's CPU backend frees the temporary buffers of an update, some gigabytes,
  and allocates them again in the next one. By default glibc returns them to
  the kernel, which then provides zeroed pages one by one: a tenth of the time
  of an update. The price is memory, since freed blocks are reused only once
  they fit. One arena serves all threads, because only the main arena keeps
  large blocks. To be called before there are threads. Settings of glibc in the
  environment have precedence.
  """
  if _computes_on_cpu():
    _tune_malloc({_TRIM_THRESHOLD: -1, _MMAP_MAX: 0, _ARENA_MAX: 1})


def release_memory() -> None:
  """Makes glibc return large freed blocks, for a process that runs for long.

  It undoes `keep_memory` but for blocks of less than 32 MiB, which are reused
  for each batch; 64 MiB of them stay.
  """
  _tune_malloc(
    {_TRIM_THRESHOLD: 64 << 20, _MMAP_THRESHOLD: 32 << 20, _MMAP_MAX: 65_536}
  )


def _tune_malloc(options: Mapping[int, int]) -> None:
  tuned = [name for name in os.environ if name.startswith("MALLOC_")]
  if sys.platform != "linux" or tuned or "GLIBC_TUNABLES" in os.environ:
    return
  library = ctypes.CDLL(None)
  if hasattr(library, "mallopt"):
    for option, value in options.items():
      library.mallopt(option, value)


def _leave_out_tpus() -> None:
  """Keeps jax from looking for TPUs where libtpu is installed without one.

  libtpu, which also serves ahead-of-time analysis, prints some ten lines of
  errors about each search that finds nothing.
  """
  if _PLATFORMS in os.environ or not importlib.util.find_spec("libtpu"):
    return
  if _computes_on_cpu():
    os.environ[_PLATFORMS] = "cpu"


def _computes_on_cpu() -> bool:
  """Whether jax, which is not imported yet, will find no accelerator."""
  told = os.environ.get(_PLATFORMS)
  return told == "cpu" if told else not any(map(glob.glob, _TPUS + _GPUS))


def _keep_programs() -> None:
  """Sets JAX's environment variables for its cache, unless they are set."""
  if _CACHE in os.environ or (folder := compiled.folder()) is None:
    return
  os.environ[_CACHE] = str(folder)
  # JAX's default is a second, which most programs of a small model take less.
  os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
  if _computes_on_cpu():
    # XLA mistakes its compiler's preferences for features that this processor
    # lacks, and warns in 3 kB about every program of the cache.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
