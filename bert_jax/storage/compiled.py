"""The folder of compiled programs, which outlive the process."""

import contextlib
import hashlib
import os
import pathlib
import platform
import time

from bert_jax.storage import download_cache

_DAYS = 30


def folder() -> pathlib.Path | None:
  """The folder for programs of this processor; None without write access.

  It is in the folder of `download_cache` and can be deleted. Programs are
  removed after a month.
  """
  # A program that was compiled for another processor may crash.
  found = download_cache.cache_folder() / "compiled" / _processor()
  try:
    found.mkdir(parents=True, exist_ok=True)
    for path in found.parent.glob("*/*"):
      # Another process may remove it at the same time.
      with contextlib.suppress(FileNotFoundError):
        if time.time() - path.stat().st_mtime > _DAYS * 86_400:
          path.unlink()
  except OSError:
    return None
  return found if os.access(found, os.W_OK) else None


def _processor() -> str:
  """A hash of the processor's features."""
  told = pathlib.Path("/proc/cpuinfo")
  lines = told.read_text().splitlines() if told.exists() else []
  # Of the first core: `flags` on x86, `Features` on ARM.
  flags = [x for x in lines if x.lower().startswith(("flags", "features"))][:1]
  found = "\n".join([platform.machine(), *flags])
  return hashlib.sha256(found.encode()).hexdigest()[:12]
