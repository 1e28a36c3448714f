"""Predicts with a trained model: `python -m launch.predict --model DIR ...`.

One text: `--text "the array is [MASK] in place"`. Many, as JSON lines with
the field `text`: `--input FILE.jsonl --output FILE.jsonl`; each line comes
back with the field `answer` added.
"""

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from absl import flags

import bert_jax
from bert_jax.settings import UserError
from launch import cli

_MODEL = flags.DEFINE_string("model", None, "The --workdir of a run.")
_TEXT = flags.DEFINE_string("text", None, "One text to answer for.")
_INPUT = flags.DEFINE_string("input", None, "JSON lines with the field text.")
_OUTPUT = flags.DEFINE_string("output", None, "Where the answers go.")
_TOP_K = flags.DEFINE_integer("top_k", 5, "Candidates for a mask.", 1)

# Texts that are in memory at a time.
_CHUNK = 1024


def _read(path: pathlib.Path) -> Iterator[dict[str, Any]]:
  with path.open(encoding="utf-8", errors="replace") as file:
    for number, line in enumerate(file, 1):
      if not line.strip():
        continue
      try:
        record = json.loads(line)
      except json.JSONDecodeError as error:
        raise UserError(f"{path}:{number}: not JSON ({error.msg})") from None
      if not isinstance(record, dict) or "text" not in record:
        raise UserError(f"{path}:{number}: expected an object with a 'text'")
      yield record


def _predict_file(predictor: bert_jax.Predictor) -> None:
  source, target = pathlib.Path(_INPUT.value), pathlib.Path(_OUTPUT.value)
  partial = target.with_name(target.name + ".partial")
  records, lines = _read(source), 0
  with partial.open("w", encoding="utf-8") as file:
    while chunk := list(itertools.islice(records, _CHUNK)):
      for record, answer in zip(chunk, predictor(chunk, top_k=_TOP_K.value)):
        line = {**record, "answer": answer}
        json.dump(line, file, default=dataclasses.asdict, ensure_ascii=False)
        file.write("\n")
      lines += len(chunk)
  partial.replace(target)
  print(f"{lines} answers in {target}")


def main(_) -> None:
  """Predicts."""
  one, many = _TEXT.value is not None, (_INPUT.value, _OUTPUT.value)
  if one == (many != (None, None)) or (not one and None in many):
    raise UserError("give either --text, or --input and --output")
  if not one and not pathlib.Path(_INPUT.value).is_file():
    raise UserError(f"--input {_INPUT.value}: no such file")
  predictor = bert_jax.load(_MODEL.value)
  if not one:
    return _predict_file(predictor)
  for number, candidates in enumerate(
    predictor(_TEXT.value, top_k=_TOP_K.value), 1
  ):
    words = "  ".join(f"{c.token} {c.probability:.3f}" for c in candidates)
    print(f"mask {number}:  {words}")
  return None


if __name__ == "__main__":
  flags.mark_flags_as_required(["model"])
  cli.run(main)
