"""What commands compile is kept for the next ones."""

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
  """Sets JAX's variables for what it compiles, unless they are set.

  The folder is one of `copies.cache()`, and may be removed. Programs are
  forgotten after a month. Where it cannot be written, nothing is kept.
  """
  if _FOLDER in os.environ:
    return
  # A processor ends programs that were compiled for another.
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
    # XLA takes preferences of its compiler for features that this processor
    # lacks, and tells so in 3 kB of every program that was kept.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _processor() -> str:
  """A name that stands for what the processor can do."""
  told = pathlib.Path("/proc/cpuinfo")
  lines = told.read_text().splitlines() if told.exists() else []
  # Those of the first core: x86's flags, and what they are called on ARM.
  flags = [x for x in lines if x.lower().startswith(("flags", "features"))][:1]
  found = "\n".join([platform.machine(), *flags])
  return hashlib.sha256(found.encode()).hexdigest()[:12]


def _forget(folder: pathlib.Path) -> None:
  """Removes what was compiled over a month ago."""
  for path in folder.glob("*/*"):
    # Another command may remove it at the same time.
    with contextlib.suppress(FileNotFoundError):
      if time.time() - path.stat().st_mtime > _DAYS * 86_400:
        path.unlink()
