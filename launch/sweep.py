r"""Searches for better values of some keys of a recipe.

    bert-jax sweep --config CONFIG --workdir DIR --trials=10 \
      --search optimizer.learning_rate=1e-5:1e-3:log --search batch_size=16,32

Trains in DIR/trial_N and optimizes `config.evaluation.metric`. The same command
resumes an interrupted sweep. Requires `pip install 'bert_jax[sweep]'`.
"""

import sys
from collections.abc import Sequence

from absl import flags

from bert_jax.cluster import interruption
from bert_jax.training import sweep

from . import cli


def define(values: cli.Values) -> None:
  """Defines the flags."""
  cli.define_config(values)
  flags.DEFINE_string(
    "workdir",
    None,
    "The folder for the runs of all trials.",
    required=True,
    flag_values=values,
  )
  flags.DEFINE_integer(
    "trials", 10, "The number of trials.", 1, flag_values=values
  )
  flags.DEFINE_multi_string(
    "search",
    None,
    "KEY=V1,V2,... or KEY=LOW:HIGH or KEY=LOW:HIGH:log; repeatable.",
    required=True,
    flag_values=values,
  )


def search(values: cli.Values) -> int:
  """Searches."""
  config = values.config.to_dict()
  searches = [sweep.parse(text) for text in values.search]
  try:
    rows = sweep.sweep(config, values.workdir, searches, values.trials)
  except interruption.Interrupted as stop:
    print(stop, file=sys.stderr)
    return interruption.EXIT_CODE
  sweep.print_table(rows, config["evaluation"]["metric"])
  return 0


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command with these arguments; returns its exit code."""
  return cli.run(search, define, argv)


if __name__ == "__main__":
  sys.exit(main())
