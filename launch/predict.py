"""Predicts with a model: one text, one record, or a file.

    bert-jax predict --model MODEL --text "the array is [MASK] in place"

MODEL is anything that `bert_jax.load` accepts: the --workdir of a run, a
Hugging Face folder or hf://ORG/NAME, a BERT checkpoint by Google.
`--model=A,B --combine=soup` averages the parameters of several models,
`--combine=ensemble` their answers; with one run, those of its checkpoints.

`--text` takes one text, with `--pair` its second text; `--record` takes a JSON
record, such as '{"question": "...", "context": "..."}'. `--input FILE` reads a
text per line or, if FILE ends in .jsonl, a record per line; empty lines are
skipped. Each record is returned as a line of JSON with the field `answer`,
printed or written to `--output FILE`; if the answers are vectors and FILE ends
in .npy, as one NumPy array.
"""

import contextlib
import functools
import itertools
import json
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

import bert_jax
from bert_jax.model import InputError
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.tasks.targets.target import to_json

from . import cli, models

# Inputs that are in memory at a time.
_CHUNK = 1024


def define(values: cli.Values) -> None:
  """Defines the flags."""
  models.define(values)
  for name, meaning in (
    ("text", "One text."),
    ("pair", "The second text of a pair."),
    ("record", "One record, as JSON."),
    ("input", "A file of texts, or of records (.jsonl)."),
    ("output", "The file for the answers; by default they are printed."),
  ):
    values.define(name, meaning)
  values.define(
    "top_k", "The number of answers at most.", "integer", lower_bound=1
  )


def _parse(line: str, where: str) -> dict[str, Any]:
  try:
    record = json.loads(line)
  except (ValueError, RecursionError) as error:
    reason = getattr(error, "msg", error)
    raise UserError(f"{where}: not JSON ({reason})") from None
  if not isinstance(record, dict):
    raise UserError(f"{where}: expected a JSON object, got {line.strip():.40}")
  return record


def _read(where: str) -> Iterator[tuple[int, dict[str, Any]]]:
  """The records of a file, each with the number of its line."""
  path = paths.local(where)
  with path.open(encoding="utf-8", errors="replace") as file:
    for number, line in enumerate(file, 1):
      if not line.strip():
        continue
      if path.suffix == ".jsonl":
        yield number, _parse(line, f"{where}:{number}")
      else:
        yield number, {"text": line.rstrip("\r\n")}


def _options(values: cli.Values, model: bert_jax.Model) -> dict[str, Any]:
  if values.top_k is None:
    return {}
  if "top_k" not in model.task.options:
    raise UserError(f"--top_k: the task {model.task.name} has no such option")
  return {"top_k": values.top_k}


def _answers(
  values: cli.Values, model: bert_jax.Model
) -> Iterator[tuple[dict[str, Any], Any]]:
  """The records of --input and what the model says to them."""
  where, options = values.input, _options(values, model)
  numbered = _read(where)
  while chunk := list(itertools.islice(numbered, _CHUNK)):
    records = [record for _, record in chunk]
    try:
      yield from zip(records, model(records, **options))
    except InputError as error:
      line = chunk[error.number - 1][0]
      raise UserError(f"{where}:{line}: {error.reason}") from error


def _write_lines(values: cli.Values, model: bert_jax.Model, file: Any) -> int:
  lines = 0
  for record, answer in _answers(values, model):
    line = {**record, "answer": answer}
    json.dump(line, file, default=to_json, ensure_ascii=False)
    file.write("\n")
    lines += 1
  return lines


def _write_array(values: cli.Values, model: bert_jax.Model, file: Any) -> int:
  vectors = [vector for _, vector in _answers(values, model)]
  if not all(isinstance(vector, np.ndarray) for vector in vectors):
    raise UserError(
      f"--output {values.output}: the answers of the task"
      f" {model.task.name} are no vectors; name a .jsonl"
    )
  if len({vector.shape for vector in vectors}) > 1:
    raise UserError(
      f"--output {values.output}: some of the answers are of one text and some"
      " of several, which make no array; name a .jsonl"
    )
  np.save(file, np.array(vectors))
  return len(vectors)


def _predict_file(values: cli.Values, model: bert_jax.Model) -> None:
  if values.output is None:
    _write_lines(values, model, sys.stdout)
    return
  output = paths.as_path(values.output)
  with paths.staged_folder(output.parent) as folder:
    target, partial = folder / output.name, folder / f"{output.name}.partial"
    try:
      if target.suffix == ".npy":
        with partial.open("wb") as file:
          lines = _write_array(values, model, file)
      else:
        with partial.open("w", encoding="utf-8") as file:
          lines = _write_lines(values, model, file)
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
    record = _parse(values.record, "--record")
  try:
    answer = model(record, **_options(values, model))
  except InputError as error:
    raise UserError(error.reason) from error
  for line in model.task.lines(answer):
    print(line)


def predict(values: cli.Values) -> None:
  """Predicts."""
  given = (values.text, values.record, values.input)
  if given.count(None) != 2 or (values.output and values.input is None):
    raise UserError(
      "give one of --text, --record and --input; --output goes with --input"
    )
  if values.pair is not None and values.text is None:
    raise UserError("--pair goes with --text")
  if values.input is not None and not paths.local(values.input).is_file():
    raise UserError(f"--input {values.input}: no such file")
  model = models.load(values)
  if values.pair is not None and "pair" not in model.task.inputs.FIELDS:
    raise UserError(f"--pair: the task {model.task.name} takes one text")
  if values.input is None:
    _predict_one(values, model)
  else:
    _predict_file(values, model)


main = functools.partial(cli.run, predict, define)

if __name__ == "__main__":
  sys.exit(main())
