"""Evaluates a model on labelled records, or on a benchmark.

    bert-jax evaluate --model MODEL --data FILE
    bert-jax evaluate --model MODEL --benchmark blimp --data BLiMP.zip

MODEL is anything that `bert_jax.load` accepts; for --combine see
`bert-jax predict`. FILE is read like the evaluation data of the run,
`config.data`; flags override this, and describe the records of a model that was
not trained here. For TFDS, `--data` is a split.

The benchmark `blimp` (Warstadt et al. 2020) needs a masked-LM head. `--data` is
its folder or zip. A pair is correct if the score of the acceptable
sentence is greater; see `bert-jax score`. `--steps=600,1200` or `--steps=all`
compares checkpoints of a run, and `--ngram_text FILE` adds an n-gram model of
this text (a sentence per line) to the floors.

Writes to --output, by default the folder of the run: `evaluation.json`,
`predictions.jsonl` (each record with its answer; for question answering also
`predictions.json`, for the SQuAD evaluation script) and `evaluation.html`.

A model that writes text writes one for each record: ROUGE, BLEU and chrF need
the extra `generation`, and `--num_beams=4` and others are options of writing.
"""

import functools
import sys
from collections.abc import Callable, Mapping
from typing import Any

from bert_jax import loading
from bert_jax.data.sources import labelled
from bert_jax.evaluation import blimp, evaluate
from bert_jax.predictor import Predictor
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.training import report, workdir

from . import cli, data_flags, generation_flags, models, score

BENCHMARKS = ("blimp",)
# Flags that describe a benchmark.
_OF_BENCHMARKS = ("limit", "steps", "ngram_text")


def define(values: cli.Values) -> None:
  """Defines the flags."""
  models.define(values)
  values.define(
    "data",
    "Files with labelled records, or a split of --dataset; of a benchmark, its"
    " folder or zip.",
    required=True,
  )
  values.define("output", "The folder to write to.")
  values.define(
    "benchmark",
    "The benchmark that --data is of.",
    "enum",
    enum_values=list(BENCHMARKS),
  )
  values.define(
    "limit",
    "The first pairs of each set of a benchmark.",
    "integer",
    lower_bound=1,
  )
  values.define("steps", "Checkpoints of the run, 600,1200; or all.")
  values.define("ngram_text", "The text of the n-gram model.")
  score.define_options(values)
  generation_flags.define(values)
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
  if values.benchmark is not None:
    _evaluate_blimp(values)
    return
  for name in _OF_BENCHMARKS:
    if getattr(values, name) is not None:
      raise UserError(f"--{name} goes with --benchmark")
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
    options = generation_flags.options(values)
    evaluation = evaluate.evaluate(model, given, **options)
  except UserError as error:
    raise UserError(data_flags.in_flags(str(error), "data")) from error
  files = evaluate.write(evaluation, folder, ",".join(names))
  report.print_table({**evaluation.metrics, **evaluation.baselines})
  for line in (*evaluation.unseen, *evaluation.notes):
    print(data_flags.in_flags(line, "data"))
  print(", ".join(map(str, files)))


def _evaluate_blimp(values: cli.Values) -> None:
  names = models.names(values)
  folder = _folder(values, names)
  if changes := data_flags.changes(values) | generation_flags.options(values):
    raise UserError(f"--{next(iter(changes))} does not go with --benchmark")
  pairs = blimp.read(values.data, values.limit)
  texts = labelled.lines(values.ngram_text) if values.ngram_text else None
  options = {"pll_metric": values.pll_metric, "stride": values.stride}
  result = blimp.evaluate(_checkpoints(values), pairs, texts, **options)
  facts = {"data": values.data, "limit": values.limit, **options}
  facts = {name: value for name, value in facts.items() if value is not None}
  files = blimp.write(result, folder, ",".join(names), facts)
  report.print_table({**result.metrics, **result.baselines})
  for title in ("field", "step"):
    if title in result.tables:
      _print(title, result.tables[title])
  print(", ".join(map(str, files)))


def _checkpoints(
  values: cli.Values,
) -> Mapping[int | None, Callable[[], Predictor]]:
  """What opens the models, by step."""
  if values.steps is None:
    return {None: lambda: models.load(values)}
  if values.combine is not None:
    raise UserError("--steps goes with one model, not --combine")
  known = workdir.steps(values.model)
  if values.steps == "all":
    steps = known
  elif all(x.strip().isdecimal() for x in values.steps.split(",")):
    steps = sorted({int(x) for x in values.steps.split(",")})
  else:
    raise UserError(f"--steps: expected 600,1200 or all, got {values.steps!r}")
  if missing := [step for step in steps if step not in known]:
    raise UserError(
      f"--steps: {values.model} has no checkpoint of step {missing[0]}; there:"
      f" {', '.join(map(str, known)) or 'none'}"
    )
  return {
    step: functools.partial(loading.load, values.model, values.task, step=step)
    for step in steps
  }


def _print(title: str, rows: Mapping[str, Mapping[str, float]]) -> None:
  """Prints a table of the evaluation."""
  import rich.console
  import rich.table

  columns = next(iter(rows.values()))
  table = rich.table.Table(title, *columns)
  for name, row in rows.items():
    cells = (f"{x:,}" if type(x) is int else f"{x:.3f}" for x in row.values())
    table.add_row(name, *cells)
  rich.console.Console().print(table)


main = functools.partial(cli.run, evaluate_model, define)

if __name__ == "__main__":
  sys.exit(main())
