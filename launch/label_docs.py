"""Writes passages of installed documentation, labelled by package.

    bert-jax label_docs --output DIR

Writes DIR/train.jsonl and DIR/eval.jsonl, for a first fine-tuning that needs no
download.
"""

import functools
import os
import pathlib
import sys

from bert_jax.data.sources import labelled_docs

from . import cli


def define(values: cli.Values) -> None:
  """Defines the flags."""
  values.define("output", "The folder to write to.", required=True)


def label_docs(values: cli.Values) -> None:
  """Writes the records."""
  counts = labelled_docs.write(
    pathlib.Path(values.output), processes=os.cpu_count() or 1
  )
  print(f"{counts['train']} and {counts['eval']} records in {values.output}")


main = functools.partial(cli.run, label_docs, define)

if __name__ == "__main__":
  sys.exit(main())
