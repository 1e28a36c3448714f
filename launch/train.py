"""Trains a recipe: `python -m launch.train --config CONFIG --workdir DIR`.

Run again, the same command goes on from the newest checkpoint. Any key of
the config can be set on the command line: `--config.steps=100`. With
`--seeds=0,1,2` the recipe is trained once a seed, in DIR/seed_N, and
DIR/seeds.json holds means and standard deviations. Asked to stop (SIGTERM,
Ctrl-C), it saves and exits with code 75.

Of a run of several processes, each runs the same command. On Cloud TPU, GKE's
TPU slices, Slurm and Open MPI they find each other; elsewhere each is given
`--coordinator_address`, `--num_processes` and its `--process_id`. The workdir
must be a folder that all of them share, or gs://BUCKET/... or s3://BUCKET/...
"""

import sys

from absl import flags

from bert_jax.cluster import interruption
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.training import loop, seeds
from bert_jax.training.recipe import Recipe
from launch import cli

_CONFIG = cli.define_config()
_JOIN = cli.define_cluster()
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "The folder for checkpoints and figures."
)
_SEEDS = flags.DEFINE_list("seeds", None, "Train once with each, as 0,1,2.")


def _seeds() -> list[int]:
  try:
    return [int(seed) for seed in _SEEDS.value]
  except ValueError:
    raise UserError(
      f"--seeds: expected numbers, got {','.join(_SEEDS.value)}"
    ) from None


def main(_) -> int:
  """Trains."""
  processes = _JOIN()
  recipe = Recipe.from_dict(_CONFIG.value.to_dict())
  workdir = paths.as_path(_WORKDIR.value)
  try:
    if _SEEDS.value is None:
      loop.train(recipe, workdir)
    else:
      summary = seeds.repeat(recipe, workdir, _seeds())
      if processes.is_first():
        seeds.print_table(summary)
  except interruption.Interrupted as stop:
    print(stop, file=sys.stderr)
    return interruption.EXIT_CODE
  return 0


if __name__ == "__main__":
  flags.mark_flag_as_required("workdir")
  cli.run(main)
