"""Evaluates a model on labelled records.

    bert-jax evaluate --model MODEL --data FILE

MODEL is anything that `bert_jax.load` accepts; for --combine see
`bert-jax predict`. FILE is read like the evaluation data of the run,
`config.data`; flags override this, and describe the records of a model that was
not trained here. For TFDS, `--data` is a split.

Writes to --output, by default the folder of the run: `evaluation.json`,
`predictions.jsonl` (each record with its answer; for question answering also
`predictions.json`, for the SQuAD evaluation script) and `evaluation.html`.
"""

import functools
import sys
from typing import Any

from bert_jax.evaluation import evaluate
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.training import report, workdir

from . import cli, data_flags, models


def define(values: cli.Values) -> None:
  """Defines the flags."""
  models.define(values)
  values.define(
    "data",
    "Files with labelled records, or a split of --dataset.",
    required=True,
  )
  values.define("output", "The folder to write to.")
  data_flags.define(values)


def _folder(values: cli.Values, names: list[str]) -> Any:
  if values.output is not None:
    return paths.as_path(values.output)
  if len(names) > 1 or not workdir.is_run(names[0]):
    raise UserError(
      "--output: name a folder to write to; only the folder of a run is its"
      " own default"
    )
  return paths.as_path(names[0])


def evaluate_model(values: cli.Values) -> None:
  """Evaluates."""
  names = models.names(values)
  folder = _folder(values, names)
  try:
    model = models.load(values)
    given = evaluate.source(
      names[0],
      model.task,
      values.data,
      values.task,
      **data_flags.changes(values),
    )
    evaluation = evaluate.evaluate(model, given)
  except UserError as error:
    raise UserError(data_flags.in_flags(str(error), "data")) from error
  files = evaluate.write(evaluation, folder, ",".join(names))
  report.print_table({**evaluation.metrics, **evaluation.baselines})
  for line in (*evaluation.unseen, *evaluation.notes):
    print(data_flags.in_flags(line, "data"))
  print(", ".join(map(str, files)))


main = functools.partial(cli.run, evaluate_model, define)

if __name__ == "__main__":
  sys.exit(main())
