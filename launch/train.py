"""Trains a recipe: `python -m launch.train --config CONFIG --workdir DIR`.

Run again, the same command goes on from the newest checkpoint. Any key of
the config can be set on the command line: `--config.steps=100`. Asked to
stop (SIGTERM, Ctrl-C), it saves and exits with code 75.
"""

import pathlib
import sys

from absl import flags

from bert_jax.training import interruption, loop
from bert_jax.training.recipe import Recipe
from launch import cli

_CONFIG = cli.define_config()
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "The folder for checkpoints and figures."
)


def main(_) -> int:
  """Trains."""
  recipe = Recipe.from_dict(_CONFIG.value.to_dict())
  try:
    loop.train(recipe, pathlib.Path(_WORKDIR.value))
  except interruption.Interrupted as stop:
    print(stop, file=sys.stderr)
    return interruption.EXIT_CODE
  return 0


if __name__ == "__main__":
  flags.mark_flag_as_required("workdir")
  cli.run(main)
