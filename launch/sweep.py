r"""Searches for better values of some keys of a recipe.

    bert-jax sweep --config CONFIG --workdir DIR --trials=10 \
      --search optimizer.learning_rate=1e-5:1e-3:log --search batch_size=16,32

Trains in DIR/trial_N and optimizes `config.evaluation.metric`. The same command
resumes an interrupted sweep. Requires `pip install 'bert_jax[sweep]'`.
"""

import functools
import sys

from bert_jax.cluster import interruption
from bert_jax.training import sweep

from . import cli


def define(values: cli.Values) -> None:
  """Defines the flags."""
  cli.define_config(values)
  values.define(
    "workdir", "The folder for the runs of all trials.", required=True
  )
  values.define("trials", "The number of trials.", "integer", 10, lower_bound=1)
  values.define(
    "search",
    "KEY=V1,V2,... or KEY=LOW:HIGH or KEY=LOW:HIGH:log; repeatable.",
    "multi_string",
    required=True,
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
  sweep.print_trials(rows, config["evaluation"]["metric"])
  return 0


main = functools.partial(cli.run, search, define)

if __name__ == "__main__":
  sys.exit(main())
