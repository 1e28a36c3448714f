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
import re
import sys
from typing import Any

from bert_jax.evaluation import evaluate
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.training import report, workdir

from . import cli, models


def define(values: cli.Values) -> None:
  """Defines the flags."""
  models.define(values)
  values.define(
    "data",
    "Files with labelled records, or a split of --dataset.",
    required=True,
  )
  values.define("output", "The folder to write to.")
  values.define("format", "tsv, csv, jsonl, conll, parallel, squad or tfds.")
  values.define(
    "columns", "The column of each field: text=0,label=LABEL.", "list"
  )
  values.define(
    "header", "Whether the first line of a table names the columns.", "bool"
  )
  values.define("bad_rows", "fail or skip.")
  values.define("dataset", "A data set of TFDS.")


def _columns(values: cli.Values) -> dict[str, str | int] | None:
  if values.columns is None:
    return None
  columns: dict[str, str | int] = {}
  for given in values.columns:
    field, _, column = given.partition("=")
    if not field or not column:
      raise UserError(f"--columns: expected FIELD=COLUMN, got {given!r}")
    is_number = column.removeprefix("-").isdecimal()
    columns[field] = int(column) if is_number else column
  return columns


def _folder(values: cli.Values, names: list[str]) -> Any:
  if values.output is not None:
    return paths.as_path(values.output)
  if len(names) > 1 or not workdir.is_run(names[0]):
    raise UserError(
      "--output: name a folder to write to; only the folder of a run is its"
      " own default"
    )
  return paths.as_path(names[0])


def _in_flags(message: str) -> str:
  """A message with the flags that stand for keys of the config."""
  message = message.replace("config.data.eval", "--data")
  keys = "format|columns|header|bad_rows|dataset"
  return re.sub(rf"\bconfig\.data\.({keys})\b", r"--\1", message)


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
      format=values.format,
      columns=_columns(values),
      header=values.header,
      bad_rows=values.bad_rows,
      dataset=values.dataset,
    )
    evaluation = evaluate.evaluate(model, given)
  except UserError as error:
    raise UserError(_in_flags(str(error))) from error
  files = evaluate.write(evaluation, folder, ",".join(names))
  report.print_table({**evaluation.metrics, **evaluation.baselines})
  for line in evaluation.task.unseen(evaluation.records):
    print(line)
  if evaluation.skipped:
    print(
      f"{len(evaluation.skipped)} rows left out; the first:"
      f" {evaluation.skipped[0]}"
    )
  print(", ".join(map(str, files)))


main = functools.partial(cli.run, evaluate_model, define)

if __name__ == "__main__":
  sys.exit(main())
