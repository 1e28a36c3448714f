"""Writes pairs to learn writing from, of the installed packages' source.

    bert-jax pairs --kind code_summary --output DIR

Writes DIR/train.jsonl and DIR/eval.jsonl with records {"text", "target"}, for
the recipes that need no download. Kinds are `code_summary` (a function, and the
first line of its docstring), `code_completion` (a function up to a place in a
line, and the rest of the line), `continuation` (the two halves of a passage of
documentation) and `infilling` (a passage with a mask, and the words in its
place). No package is in both files.
"""

import functools
import os
import pathlib
import sys

from bert_jax.data.sources import installed_pairs

from . import cli


def define(values: cli.Values) -> None:
  """Defines the flags."""
  values.define(
    "kind",
    "What is written.",
    "enum",
    required=True,
    enum_values=tuple(installed_pairs.KINDS),
  )
  values.define("output", "The folder to write to.", required=True)
  values.define(
    "mask",
    "The name of the mask token in the vocabulary, for infilling: that of BERT,"
    " or <mask>.",
    default="[MASK]",
  )


def pairs(values: cli.Values) -> None:
  """Writes the pairs."""
  counts = installed_pairs.write(
    pathlib.Path(values.output),
    values.kind,
    processes=os.cpu_count() or 1,
    mask=values.mask,
  )
  print(f"{counts['train']} and {counts['eval']} records in {values.output}")


main = functools.partial(cli.run, pairs, define)

if __name__ == "__main__":
  sys.exit(main())
