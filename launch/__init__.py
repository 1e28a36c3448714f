"""The commands: `python -m launch.NAME` here, `bert-jax NAME` where installed.

Each command is a module with `main(argv)`, which returns an exit code and can
be called several times in one process.
"""

import sys

# Python sets this while it looks for the module of `python -m launch.NAME`,
# which is the last moment before jax is imported.
if sys.argv[:1] == ["-m"]:
  from . import process

  process.set_up()
