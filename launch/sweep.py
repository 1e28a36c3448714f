"""Searches for better values of some keys of a recipe.

`python -m launch.sweep --config CONFIG --workdir DIR --trials=10
--search optimizer.learning_rate=1e-5:1e-3:log --search batch_size=16,32`
trains in DIR/trial_N and makes `config.evaluation.metric` better; needs
`pip install 'bert_jax[sweep]'`. Interrupted, the same command goes on.
"""

import sys

from absl import flags

from bert_jax.cluster import interruption
from bert_jax.training import sweep
from launch import cli

_CONFIG = cli.define_config()
_WORKDIR = flags.DEFINE_string("workdir", None, "The folder for all runs.")
_TRIALS = flags.DEFINE_integer("trials", 10, "How many to try.", 1)
_SEARCH = flags.DEFINE_multi_string(
  "search", None, "KEY=V1,V2,... or KEY=LOW:HIGH or KEY=LOW:HIGH:log."
)


def main(_) -> int:
  """Searches."""
  config, workdir = _CONFIG.value.to_dict(), _WORKDIR.value
  searches = [sweep.parse(text) for text in _SEARCH.value]
  try:
    rows = sweep.sweep(config, workdir, searches, _TRIALS.value)
  except interruption.Interrupted as stop:
    print(stop, file=sys.stderr)
    return interruption.EXIT_CODE
  sweep.print_table(rows, config["evaluation"]["metric"])
  return 0


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir", "search"])
  cli.run(main)
