"""Converts a model: `python -m launch.convert SRC DST --to=huggingface`.

SRC is whatever `bert_jax.load` takes: the --workdir of a run, a Hugging Face
folder or hf://ORG/NAME, a BERT release of Google's. DST is a new folder, with
--to=huggingface one that Transformers opens, with --to=bert_jax one of ours.
"""

from absl import flags

import bert_jax
from bert_jax.settings import UserError
from launch import cli

_TO = flags.DEFINE_enum(
  "to", None, ["huggingface", "bert_jax"], "The form that DST is to have."
)
_TASK = flags.DEFINE_string(
  "task", None, "What the head is for, if it is not for what SRC says."
)


def main(arguments: list[str]) -> None:
  """Converts."""
  if len(arguments) != 3:
    raise UserError(
      "expected a source and a destination, SRC DST, got"
      f" {' '.join(arguments[1:]) or 'neither'}"
    )
  _, source, target = arguments
  model = bert_jax.load(source, _TASK.value)
  bert_jax.save(model, target, _TO.value)
  task = model.task
  print(f"{target}: a {task.config.family} model for the task {task.name}")


if __name__ == "__main__":
  flags.mark_flag_as_required("to")
  cli.run(main, takes_arguments=True)
