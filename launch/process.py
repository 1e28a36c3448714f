"""Settings of a process that runs one command."""

import faulthandler

from . import compilation_cache, memory


def set_up() -> None:
  """Sets up malloc, the compilation cache and crash reports.

  To be called before jax is imported and before there are threads.
  """
  faulthandler.enable()
  memory.keep()
  compilation_cache.keep()
