"""Writes passages of the installed documentation, labelled by package.

`python -m launch.label_docs --output DIR` makes DIR/train.jsonl and
DIR/eval.jsonl, for a first fine-tuning that needs no download.
"""

import os
import pathlib

from absl import flags

from bert_jax.data.sources import labelled_docs
from launch import cli

_OUTPUT = flags.DEFINE_string("output", None, "The folder to write to.")


def main(_) -> None:
  """Writes."""
  counts = labelled_docs.write(
    pathlib.Path(_OUTPUT.value), processes=os.cpu_count() or 1
  )
  print(f"{counts['train']} and {counts['eval']} records in {_OUTPUT.value}")


if __name__ == "__main__":
  flags.mark_flag_as_required("output")
  cli.run(main)
