"""Predicts with a model: one text, one record, or a file.

    bert-jax predict --model MODEL --text "the array is [MASK] in place"

MODEL is anything that `bert_jax.load` accepts: the --workdir of a run, a
Hugging Face folder or hf://ORG/NAME, a BERT checkpoint by Google.
`--model=A,B --combine=soup` averages the parameters of several models,
`--combine=ensemble` their answers; with one run, those of its checkpoints.

`--text` takes one text, with `--pair` its second text; `--record` takes a JSON
record, such as '{"question": "...", "context": "..."}'. `--input FILE` reads
the formats that training reads, and .txt with a text per line; records have the
fields of the task under their names, unless --columns says otherwise. Each
record is returned as a line of JSON with all its fields and `answer`, printed
or written to `--output FILE`; if the answers are vectors and FILE ends in .npy,
as one NumPy array.

A model that writes text takes the options of writing, such as `--num_beams=4`
or `--do_sample --top_p=0.9`; `--stream` prints one text as it is written.
"""

import contextlib
import functools
import itertools
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

import bert_jax
from bert_jax import settings
from bert_jax.data import records
from bert_jax.data.records import Records, RecordsConfig
from bert_jax.data.sources.labelled import (
  BadRow,
  Record,
  count_surrogates,
  parse_json,
)
from bert_jax.predictor import InputError, Predictor
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.tasks import labelled
from bert_jax.tasks.inputs.rows import UnknownTokens
from bert_jax.tasks.targets.target import json_line

from . import cli, data_flags, generation_flags, models

# Inputs that are in memory at a time.
_CHUNK = 1024


def define(values: cli.Values) -> None:
  """Defines the flags."""
  models.define(values)
  for name, meaning in (
    ("text", "One text."),
    ("pair", "The second text of a pair."),
    ("record", "One record, as JSON."),
    ("input", "Files of texts or records."),
    ("output", "The file for the answers; by default they are printed."),
  ):
    values.define(name, meaning)
  values.define(
    "top_k",
    "The number of answers at most; of tasks that write, see do_sample, the"
    " number of tokens that are drawn from.",
    "integer",
    lower_bound=1,
  )
  values.define(
    "activation",
    "The activation of the outputs instead of the model's: identity gives the"
    " logits.",
  )
  values.define(
    "stream", "Print the text that is written as it comes.", "bool", False
  )
  generation_flags.define(values)
  data_flags.define(values)


def _parse(text: str) -> Record:
  try:
    record = parse_json(text)
  except (ValueError, RecursionError) as error:
    reason = getattr(error, "msg", error)
    raise UserError(f"--record: not JSON ({reason})") from None
  if not isinstance(record, dict):
    raise UserError(f"--record: expected a JSON object, got {text.strip():.40}")
  return record


def _options(values: cli.Values, model: bert_jax.Model) -> dict[str, Any]:
  given = generation_flags.options(values)
  if values.activation is not None:
    given["activation"] = values.activation
  for name in given.keys() - model.task.options:
    raise UserError(f"--{name}: the task {model.task.name} has no such option")
  return given


def answers(
  model: Predictor,
  config: RecordsConfig,
  options: Mapping[str, Any],
  chunk_size: int = _CHUNK,
) -> Iterator[tuple[Record, Any]]:
  """The records of --input and the answers to them.

  Args:
    model: the model.
    config: says where the records are, as `eval`.
    options: of the answers, such as `top_k`.
    chunk_size: the records that are in memory at a time.
  """
  found = Records([], [], config.bad_rows, "config.data", "eval")
  task, surrogates = model.task, 0
  unknown = UnknownTokens(task.tokenizer)
  rows = labelled.stream_inputs(config, task)
  is_empty = True
  while chunk := list(itertools.islice(rows, chunk_size)):
    given, examples = [], []
    for row in chunk:
      if isinstance(row, BadRow):
        found.reject(*row)
        continue
      try:
        examples.append(task.preprocess(row.record, labelled=False))
      except UserError as error:
        found.reject(row.where, str(error))
      else:
        given.append(row.record)
    surrogates += count_surrogates(given)
    unknown.add(itertools.chain.from_iterable(examples))
    predictions = model.predict_examples(given, examples, **options)
    for record, prediction in zip(given, predictions):
      is_empty = False
      yield record, task.decode(record, prediction, **options)
  if is_empty:
    found.need_rows()
  lines = records.notes(found.skipped, surrogates, "--input")
  for line in (*lines, *unknown.notes("--input")):
    warnings.warn(line, stacklevel=1)


def _write_lines(answers: Iterator[tuple[Record, Any]], file: Any) -> int:
  lines = 0
  for record, answer in answers:
    file.write(json_line({**record, "answer": answer}) + "\n")
    lines += 1
  return lines


def _write_array(
  output: str,
  model: Predictor,
  answers: Iterator[tuple[Record, Any]],
  file: Any,
) -> int:
  vectors = [vector for _, vector in answers]
  if not all(isinstance(vector, np.ndarray) for vector in vectors):
    raise UserError(
      f"--output {output}: the answers of the task"
      f" {model.task.name} are no vectors; name a .jsonl"
    )
  if len({vector.shape for vector in vectors}) > 1:
    raise UserError(
      f"--output {output}: some of the answers are of one text and some"
      " of several, which make no array; name a .jsonl"
    )
  np.save(file, np.array(vectors))
  return len(vectors)


def write(
  given: str | None, model: Predictor, answers: Iterator[tuple[Record, Any]]
) -> None:
  """Writes answers to --output, or prints them if there is none."""
  if given is None:
    _write_lines(answers, sys.stdout)
    return
  output = paths.as_path(given)
  with paths.staged_folder(output.parent) as folder:
    target, partial = folder / output.name, folder / f"{output.name}.partial"
    try:
      if target.suffix == ".npy":
        with partial.open("wb") as file:
          lines = _write_array(given, model, answers, file)
      else:
        with partial.open("w", encoding="utf-8") as file:
          lines = _write_lines(answers, file)
      partial.replace(target)
    finally:
      with contextlib.suppress(OSError):
        partial.unlink(missing_ok=True)
  print(f"{lines} answers in {output}")


def _predict_one(values: cli.Values, model: bert_jax.Model) -> None:
  record = {"text": values.text}
  if values.pair is not None:
    record["pair"] = values.pair
  if values.record is not None:
    record = _parse(values.record)
  options = _options(values, model)
  try:
    if values.stream:
      _print_stream(values, model, record, options)
      return
    answer = model(record, **options)
  except InputError as error:
    raise UserError(error.reason) from error
  for line in model.task.lines(answer):
    print(line)


def _print_stream(
  values: cli.Values,
  model: bert_jax.Model,
  record: Record,
  options: dict[str, Any],
) -> None:
  if not model.task.writes:
    raise UserError(f"--stream: the task {model.task.name} does not write")
  for piece in model.stream(record, **options):
    print(piece, end="", flush=True)
  print()


def predict(values: cli.Values) -> None:
  """Predicts."""
  try:
    _predict(values)
  except UserError as error:
    raise UserError(data_flags.in_flags(str(error), "input")) from error


def _predict(values: cli.Values) -> None:
  given = (values.text, values.record, values.input)
  if given.count(None) != 2 or (values.output and values.input is None):
    raise UserError(
      "give one of --text, --record and --input; --output goes with --input"
    )
  if values.stream and values.input is not None:
    raise UserError("--stream goes with --text or --record")
  if values.pair is not None and values.text is None:
    raise UserError("--pair goes with --text")
  if values.input is not None:
    given = {"eval": values.input, **data_flags.changes(values)}
    config = settings.from_dict(RecordsConfig, given, "config.data")
    # Before the model is loaded, which takes a while.
    records.find(config, "eval")
  model = models.load(values)
  if values.pair is not None and "pair" not in model.task.inputs.FIELDS:
    raise UserError(f"--pair: the task {model.task.name} takes one text")
  if values.input is None:
    _predict_one(values, model)
  else:
    found = answers(model, config, _options(values, model))
    write(values.output, model, found)


main = functools.partial(cli.run, predict, define)

if __name__ == "__main__":
  sys.exit(main())
