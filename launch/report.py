"""Summarizes a run: a table, metrics as JSON, learning curves.

    bert-jax report --workdir DIR

Prints a table and writes `DIR/results.json` and `DIR/curves.png`. With
`--compare NAME=DIR2`, which can be repeated, the results also hold the metric
that another run is selected by, as `NAME_METRIC`.
"""

import functools
import sys

from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.training import report

from . import cli


def define(values: cli.Values) -> None:
  """Defines the flags."""
  values.define(
    "compare",
    "NAME=DIR of another run; repeatable.",
    "multi_string",
    default=[],
  )
  values.define("workdir", "The --workdir of the run.", required=True)


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


main = functools.partial(cli.run, write_report, define)

if __name__ == "__main__":
  sys.exit(main())
