"""Summarizes a run: a table, metrics as JSON, learning curves.

    bert-jax report --workdir DIR

Prints a table and writes `DIR/results.json` and `DIR/curves.png`. With
`--compare NAME=DIR2`, which can be repeated, the results also hold the metric
that another run is selected by, as `NAME_METRIC`.
"""

import sys
from collections.abc import Sequence

from absl import flags

from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.training import report

from . import cli


def define(values: cli.Values) -> None:
  """Defines the flags."""
  flags.DEFINE_multi_string(
    "compare", [], "NAME=DIR of another run; repeatable.", flag_values=values
  )
  flags.DEFINE_string(
    "workdir",
    None,
    "The --workdir of the run.",
    required=True,
    flag_values=values,
  )


def write_report(values: cli.Values) -> None:
  """Reports."""
  workdir = paths.as_path(values.workdir)
  others = {}
  for given in values.compare:
    name, equals, folder = given.partition("=")
    if not name or not equals:
      raise UserError(f"--compare {given}: expected NAME=DIR")
    others[name] = paths.as_path(folder)
  report.print_table(report.report(workdir, others))
  print(f"{workdir / report.RESULTS_FILE}, {workdir / report.CURVES_FILE}")


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command with these arguments; returns its exit code."""
  return cli.run(write_report, define, argv)


if __name__ == "__main__":
  sys.exit(main())
