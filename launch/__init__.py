"""The commands, `python -m launch.NAME`."""

from launch import compilation_cache, memory

memory.keep()
# Before any of them imports jax, which reads this.
compilation_cache.keep()
