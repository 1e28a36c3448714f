"""Sums up a run: `python -m launch.report --workdir DIR`.

Prints a table, and writes `DIR/results.json` and `DIR/curves.png`.
"""

import pathlib

from absl import flags

from bert_jax.training import report
from launch import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "The --workdir of a run.")


def main(_) -> None:
  """Reports."""
  workdir = pathlib.Path(_WORKDIR.value)
  report.print_table(report.report(workdir))
  print(f"{workdir / report.RESULTS_FILE}, {workdir / report.CURVES_FILE}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  cli.run(main)
