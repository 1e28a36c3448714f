"""Trains a recipe: pretraining and fine-tuning.

    bert-jax train --config CONFIG --workdir DIR

The same command resumes from the newest checkpoint. Any key of the config can
be set on the command line: `--config.steps=100`. `--help_config` lists all
keys, `--print_config` prints the values of this run. With `--seeds=0,1,2` the
recipe is trained once per seed in DIR/seed_N, and DIR/seeds.json holds means
and standard deviations. `--profile=10:12` writes a trace of these steps to
DIR/profile, for XProf and TensorBoard. On SIGTERM or Ctrl-C it saves a
checkpoint and exits with code 75.

In a run of several processes, each runs the same command. On Cloud TPU, TPU
slices of GKE, Slurm and Open MPI they find each other; elsewhere give each
`--coordinator_address`, `--num_processes` and `--process_id`. The workdir must
be a folder that all processes share, or gs://BUCKET/... or s3://BUCKET/...
"""

import functools
import sys

from bert_jax.cluster import interruption
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.training import run, sweep
from bert_jax.training.recipe import Recipe

from . import cli


def define(values: cli.Values) -> None:
  """Defines the flags."""
  cli.define_config(values)
  cli.define_cluster(values)
  values.define(
    "workdir", "The folder for checkpoints and metrics.", required=True
  )
  values.define("seeds", "Train once with each of these seeds.", "list")
  values.define(
    "profile",
    "FIRST:LAST, the steps whose jax.profiler trace is written to"
    " WORKDIR/profile.",
  )


def _seeds(given: list[str]) -> list[int]:
  try:
    return [int(seed) for seed in given]
  except ValueError:
    raise UserError(
      f"--seeds: expected numbers, got {','.join(given)}"
    ) from None


def _profile(given: str | None) -> tuple[int, int] | None:
  if given is None:
    return None
  first, colon, last = given.partition(":")
  if not (colon and first.isdecimal() and last.isdecimal()):
    raise UserError(f"--profile: expected FIRST:LAST, got {given}")
  return int(first), int(last)


def train(values: cli.Values) -> int:
  """Trains."""
  processes = cli.join_cluster(values)
  recipe = Recipe.from_dict(values.config.to_dict())
  workdir = paths.as_path(values.workdir)
  profile = _profile(values.profile)
  if profile and values.seeds:
    raise UserError("--profile: not together with --seeds; profile one run")
  try:
    if values.seeds is None:
      run.train_recipe(recipe, workdir, profile)
    else:
      summary = sweep.repeat(recipe, workdir, _seeds(values.seeds))
      if processes.is_first():
        sweep.print_seeds(summary)
  except interruption.Interrupted as stop:
    print(stop, file=sys.stderr)
    return interruption.EXIT_CODE
  return 0


main = functools.partial(cli.run, train, define)

if __name__ == "__main__":
  sys.exit(main())
