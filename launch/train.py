"""Trains a recipe: `python -m launch.train --config CONFIG --workdir DIR`.

Run again, the same command goes on from the newest checkpoint. Any key of
the config can be set on the command line: `--config.steps=100`. Asked to
stop (SIGTERM, Ctrl-C), it saves and exits with code 75.
"""

import pathlib

from absl import flags
from ml_collections import config_flags

from bert_jax.training import loop
from bert_jax.training.recipe import Recipe
from launch import cli

_CONFIG = config_flags.DEFINE_config_file("config", None, "The recipe.")
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "The folder for checkpoints and figures."
)


def main(_) -> None:
  """Trains."""
  recipe = Recipe.from_dict(_CONFIG.value.to_dict())
  loop.train(recipe, pathlib.Path(_WORKDIR.value))


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  cli.run(main)
