"""Sums up a run: `python -m launch.report --workdir DIR`.

Prints a table, and writes `DIR/results.json` and `DIR/curves.png`. With
`--beside NAME=DIR2`, as often as wanted, the measure that another run follows
is in the results too, as `NAME_MEASURE`.
"""

from absl import flags

from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.training import report
from launch import cli

_BESIDE = flags.DEFINE_multi_string("beside", [], "NAME=DIR of another run.")
_WORKDIR = flags.DEFINE_string("workdir", None, "The --workdir of a run.")


def main(_) -> None:
  """Reports."""
  workdir = paths.as_path(_WORKDIR.value)
  others = {}
  for given in _BESIDE.value:
    name, equals, folder = given.partition("=")
    if not name or not equals:
      raise UserError(f"--beside {given}: expected NAME=DIR")
    others[name] = paths.as_path(folder)
  report.print_table(report.report(workdir, others))
  print(f"{workdir / report.RESULTS_FILE}, {workdir / report.CURVES_FILE}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir"])
  cli.run(main)
