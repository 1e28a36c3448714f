"""Writes passages of installed documentation, labelled by package.

    bert-jax label_docs --output DIR

Writes DIR/train.jsonl and DIR/eval.jsonl, for a first fine-tuning that needs no
download.
"""

import os
import pathlib
import sys
from collections.abc import Sequence

from absl import flags

from bert_jax.data.sources import labelled_docs

from . import cli


def define(values: cli.Values) -> None:
  """Defines the flags."""
  flags.DEFINE_string(
    "output",
    None,
    "The folder to write to.",
    required=True,
    flag_values=values,
  )


def label_docs(values: cli.Values) -> None:
  """Writes the records."""
  counts = labelled_docs.write(
    pathlib.Path(values.output), processes=os.cpu_count() or 1
  )
  print(f"{counts['train']} and {counts['eval']} records in {values.output}")


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command with these arguments; returns its exit code."""
  return cli.run(label_docs, define, argv)


if __name__ == "__main__":
  sys.exit(main())
