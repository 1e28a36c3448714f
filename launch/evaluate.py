"""Measures a model: `python -m launch.evaluate --model WHERE --data FILE`.

WHERE is whatever `bert_jax.load` takes; with --combine several, see
`launch.predict`. FILE holds labelled records and is read as the held-out
records of the run were, `config.data`; flags say what is different, or how
to read records for a model that was not trained here. For TFDS, `--data` is a
split.

Writes to --output, by default into the folder of the run: `evaluation.json`,
`predictions.jsonl` (each record with its answer; of question answering also
`predictions.json`, for SQuAD's scorer) and a page, `evaluation.html`.
"""

import re
from typing import Any

from absl import flags

from bert_jax.evaluation import evaluate, output
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.training import report, workdir
from launch import cli, models

_DATA = flags.DEFINE_string(
  "data", None, "Files with labelled records, or a split of --dataset."
)
_OUTPUT = flags.DEFINE_string("output", None, "The folder to write to.")
_FORMAT = flags.DEFINE_string(
  "format", None, "tsv, csv, jsonl, conll, parallel, squad or tfds."
)
_COLUMNS = flags.DEFINE_list(
  "columns", None, "Where the fields are: text=0,label=LABEL."
)
_HEADER = flags.DEFINE_bool(
  "header", None, "Whether the first line of a table names the columns."
)
_BAD_ROWS = flags.DEFINE_string("bad_rows", None, "fail or skip.")
_DATASET = flags.DEFINE_string("dataset", None, "A data set of TFDS.")


def _columns() -> dict[str, str | int] | None:
  if _COLUMNS.value is None:
    return None
  columns: dict[str, str | int] = {}
  for given in _COLUMNS.value:
    field, _, column = given.partition("=")
    if not field or not column:
      raise UserError(f"--columns: expected FIELD=COLUMN, got {given!r}")
    is_number = column.removeprefix("-").isdecimal()
    columns[field] = int(column) if is_number else column
  return columns


def _folder(names: list[str]) -> Any:
  if _OUTPUT.value is not None:
    return paths.as_path(_OUTPUT.value)
  if len(names) > 1 or not workdir.is_run(names[0]):
    raise UserError(
      "--output: name a folder to write to; only the folder of a run is its"
      " own default"
    )
  return paths.as_path(names[0])


def _evaluate(name: str) -> evaluate.Evaluation:
  model = models.load()
  given = evaluate.source(
    name,
    model.task,
    _DATA.value,
    models.task(),
    format=_FORMAT.value,
    columns=_columns(),
    header=_HEADER.value,
    bad_rows=_BAD_ROWS.value,
    dataset=_DATASET.value,
  )
  return evaluate.evaluate(model, given)


def _in_flags(message: str) -> str:
  """A message with the flags that stand for keys of the config."""
  message = message.replace("config.data.eval", "--data")
  keys = "format|columns|header|bad_rows|dataset"
  return re.sub(rf"\bconfig\.data\.({keys})\b", r"--\1", message)


def main(_) -> None:
  """Evaluates."""
  names = models.names()
  folder = _folder(names)
  try:
    evaluation = _evaluate(names[0])
  except UserError as error:
    raise UserError(_in_flags(str(error))) from error
  files = output.write(evaluation, folder, ",".join(names))
  report.print_table({**evaluation.metrics, **evaluation.baselines})
  if evaluation.skipped:
    print(
      f"{len(evaluation.skipped)} rows left out; the first:"
      f" {evaluation.skipped[0]}"
    )
  print(", ".join(map(str, files)))


if __name__ == "__main__":
  flags.mark_flag_as_required("data")
  models.mark_required()
  cli.run(main)
