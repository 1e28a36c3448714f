"""The commands, `python -m launch.NAME`."""

from launch import compiled, memory

memory.keep()
# Before any of them imports jax, which reads this.
compiled.keep()
