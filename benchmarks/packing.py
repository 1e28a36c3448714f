"""Measures the packing efficiency of rows of real text.

python -m benchmarks.packing [--text FILE ...] [--documents blank_line]
"""

import argparse
import pathlib
import tempfile

import jax

from benchmarks import batches, cases

_ROWS, _BATCHES = 64, 16


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  cases.add_arguments(parser)
  arguments = parser.parse_args()
  jax.config.update("jax_platforms", "cpu")
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    corpus = cases.Text.prepare(arguments.text, arguments.documents, folder)
    for length in cases.PREDICTIONS:
      for most in (1, arguments.max_sequences):
        case = cases.Case("training", length, _ROWS, True, {})
        made = cases.config(case, corpus.folder, most, {})
        found = batches.write_rows(case, made, _BATCHES, 0, folder / "rows.npz")
        print(
          f"length {length}, at most {most} sequences per row:"
          f" packing efficiency {found.tokens / found.positions:.1%},"
          f" {found.sequences / _ROWS / _BATCHES:.2f} sequences per row,"
          f" {found.tokens / found.sequences:.0f} tokens per sequence"
        )


if __name__ == "__main__":
  main()
