"""Settings of malloc for the process of a command."""

import ctypes
import os
import sys

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
# Of NVIDIA's, Google's (older and newer) and AMD's drivers.
_ACCELERATORS = ("/dev/nvidia0", "/dev/accel0", "/dev/vfio/0", "/dev/kfd")


def keep() -> None:
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
  if computes_on_cpu() and hasattr(library, "mallopt"):
    for option, value in (_TRIM_THRESHOLD, -1), (_MMAP_MAX, 0), (_ARENA_MAX, 1):
      library.mallopt(option, value)


def computes_on_cpu() -> bool:
  """Whether jax, which is not imported yet, will find no accelerator."""
  told = os.environ.get("JAX_PLATFORMS")
  return told == "cpu" if told else not any(map(os.path.exists, _ACCELERATORS))
