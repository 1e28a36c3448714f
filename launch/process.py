"""Settings of a process that runs one command: malloc, compilation cache."""

import contextlib
import ctypes
import faulthandler
import glob
import hashlib
import importlib.util
import os
import pathlib
import platform
import sys
import time

from bert_jax.storage import download_cache

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
# Of Google's drivers (older and newer), and of NVIDIA's and AMD's.
_TPUS = ("/dev/accel*", "/dev/vfio/[0-9]*")
_GPUS = ("/dev/nvidia[0-9]*", "/dev/kfd")
_PLATFORMS = "JAX_PLATFORMS"
_CACHE = "JAX_COMPILATION_CACHE_DIR"
_DAYS = 30


def set_up() -> None:
  """Sets up malloc, the compilation cache and crash reports.

  To be called before jax is imported and before there are threads.
  """
  faulthandler.enable()
  _leave_out_tpus()
  keep_memory()
  _keep_programs()


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
  tuned = [name for name in os.environ if name.startswith("MALLOC_")]
  if sys.platform != "linux" or tuned or "GLIBC_TUNABLES" in os.environ:
    return
  library = ctypes.CDLL(None)
  if _computes_on_cpu() and hasattr(library, "mallopt"):
    for option, value in (_TRIM_THRESHOLD, -1), (_MMAP_MAX, 0), (_ARENA_MAX, 1):
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
  """Sets JAX's environment variables for its cache, unless they are set.

  The cache is in the folder of `download_cache` and can be deleted. Programs
  are removed after a month. Without write access, there is no cache.
  """
  if _CACHE in os.environ:
    return
  # A program that was compiled for another processor may crash.
  folder = download_cache.cache_folder() / "compiled" / _processor()
  try:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.parent.glob("*/*"):
      # Another command may remove it at the same time.
      with contextlib.suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > _DAYS * 86_400:
          path.unlink()
  except OSError:
    return
  if not os.access(folder, os.W_OK):
    return
  os.environ[_CACHE] = str(folder)
  if _computes_on_cpu():
    # XLA mistakes its compiler's preferences for features that this processor
    # lacks, and warns in 3 kB about every program of the cache.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _processor() -> str:
  """A hash of the processor's features."""
  told = pathlib.Path("/proc/cpuinfo")
  lines = told.read_text().splitlines() if told.exists() else []
  # Of the first core: `flags` on x86, `Features` on ARM.
  flags = [x for x in lines if x.lower().startswith(("flags", "features"))][:1]
  found = "\n".join([platform.machine(), *flags])
  return hashlib.sha256(found.encode()).hexdigest()[:12]
