"""Converts a model to the format of Hugging Face or of bert_jax.

    bert-jax convert SRC DST --to=huggingface

SRC is anything that `bert_jax.load` accepts: the --workdir of a run, a Hugging
Face folder or hf://ORG/NAME, a BERT checkpoint by Google. DST is a new folder:
with --to=huggingface Transformers opens it.
"""

import sys
from collections.abc import Sequence

from absl import flags

import bert_jax
from bert_jax.settings import UserError

from . import cli


def define(values: cli.Values) -> None:
  """Defines the flags."""
  flags.DEFINE_enum(
    "to",
    None,
    ["huggingface", "bert_jax"],
    "The format of DST.",
    required=True,
    flag_values=values,
  )
  flags.DEFINE_string(
    "task",
    None,
    "The task of the head, if it is not the one that SRC names.",
    flag_values=values,
  )


def convert(values: cli.Values, arguments: list[str]) -> None:
  """Converts."""
  if len(arguments) != 2:
    raise UserError(
      "expected a source and a destination, SRC DST, got"
      f" {' '.join(arguments) or 'neither'}"
    )
  source, target = arguments
  model = bert_jax.load(source, values.task)
  bert_jax.save(model, target, values.to)
  task = model.task
  print(f"{target}: a {task.config.family} model for the task {task.name}")


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command with these arguments; returns its exit code."""
  return cli.run(convert, define, argv, takes_arguments=True)


if __name__ == "__main__":
  sys.exit(main())
