"""JAX's persistent compilation cache, shared by all commands."""

import contextlib
import hashlib
import os
import pathlib
import platform
import time

from bert_jax.storage import download_cache

from . import memory

_FOLDER = "JAX_COMPILATION_CACHE_DIR"
_DAYS = 30


def keep() -> None:
  """Sets JAX's environment variables for the cache, unless they are set.

  The cache is in the folder of `download_cache` and can be deleted. Programs
  are removed after a month. Without write access, there is no cache.
  """
  if _FOLDER in os.environ:
    return
  # A program that was compiled for another processor may crash.
  folder = download_cache.cache_folder() / "compiled" / _processor()
  try:
    folder.mkdir(parents=True, exist_ok=True)
    _forget(folder.parent)
  except OSError:
    return
  if not os.access(folder, os.W_OK):
    return
  os.environ[_FOLDER] = str(folder)
  if memory.computes_on_cpu():
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


def _forget(folder: pathlib.Path) -> None:
  """Removes programs that were compiled over a month ago."""
  for path in folder.glob("*/*"):
    # Another command may remove it at the same time.
    with contextlib.suppress(FileNotFoundError):
      if time.time() - path.stat().st_mtime > _DAYS * 86_400:
        path.unlink()
