"""Converts a model to the format of Hugging Face, of peft or of bert_jax.

    bert-jax convert SRC DST --to=huggingface

SRC is anything that `bert_jax.load` accepts: the --workdir of a run, a Hugging
Face folder or hf://ORG/NAME, a BERT checkpoint by Google. DST is a new folder:
with --to=huggingface Transformers opens it. With --to=peft it has the adapters
and heads of a run with config.lora alone, and peft opens it.
"""

import functools
import sys

import bert_jax
from bert_jax import loading
from bert_jax.settings import UserError

from . import cli, models


def define(values: cli.Values) -> None:
  """Defines the flags."""
  values.define(
    "to",
    "The format of DST.",
    "enum",
    enum_values=["huggingface", "peft", "bert_jax"],
    required=True,
  )
  values.define(
    "task", "The task of the head, if it is not the one that SRC names."
  )
  models.define_ignored(values)


def convert(values: cli.Values, arguments: list[str]) -> None:
  """Converts."""
  if len(arguments) != 2:
    raise UserError(
      "expected a source and a destination, SRC DST, got"
      f" {' '.join(arguments) or 'neither'}"
    )
  source, target = arguments
  options = {"ignore_unexpected": values.ignore_unexpected}
  if values.to == "peft":
    if values.task is not None:
      raise UserError("--task: an adapter has the task that it was trained for")
    model = loading.load_adapted(source, **options)
  else:
    model = loading.load_model(source, values.task, **options)
  bert_jax.save(model, target, values.to)
  task = model.task
  print(f"{target}: a {task.config.family} model for the task {task.name}")


main = functools.partial(cli.run, convert, define, takes_arguments=True)

if __name__ == "__main__":
  sys.exit(main())
