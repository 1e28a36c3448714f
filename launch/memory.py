"""The memory of a command's process."""

import ctypes
import os
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
# Of NVIDIA's, Google's (older and newer) and AMD's drivers.
_ACCELERATORS = ("/dev/nvidia0", "/dev/accel0", "/dev/vfio/0", "/dev/kfd")


def keep() -> None:
  """Makes glibc keep what is freed, for computing on the CPU.

  XLA's CPU backend frees what an update needs besides its results, some
  gigabytes, and asks for it again in the next one. Else that is given back,
  and comes from the kernel page by page, set to zero: a tenth of the time of
  an update. The price is memory: blocks rarely fit where the last ones were,
  so that there are several of them before all of them are used again. One
  arena serves all threads, for only that can hold large blocks. To be called
  before there are threads; what the user has told glibc has the last word.
  """
  tuned = [name for name in os.environ if name.startswith("MALLOC_")]
  if sys.platform != "linux" or tuned or "GLIBC_TUNABLES" in os.environ:
    return
  library = ctypes.CDLL(None)
  if computes_on_cpu() and hasattr(library, "mallopt"):
    for option, value in (_TRIM_THRESHOLD, -1), (_MMAP_MAX, 0), (_ARENA_MAX, 1):
      library.mallopt(option, value)


def computes_on_cpu() -> bool:
  """Whether jax, which is not there yet, will find nothing else."""
  told = os.environ.get("JAX_PLATFORMS")
  return told == "cpu" if told else not any(map(os.path.exists, _ACCELERATORS))
