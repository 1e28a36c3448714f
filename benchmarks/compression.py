"""Smaller models beside the published figures of their methods.

  python -m benchmarks.compression --model RUN --data SST2/dev.tsv
    --train SST2/train.tsv --student distilbert=S1,S2 --floor distilbert=F1,F2
    --student cofi=P1 --student pabee=RUN_WITH_EXITS [--exits patience=2]

Each student is a model that was made of the full one, `--model`, by training:
by distillation (`distilbert`, `tinybert`), by pruning (`cofi`, `nn_pruning`) or
with early exits (`pabee`). Several, between commas, are seeds. A floor is the
same small network trained without a teacher. What needs no training is made
here: `intel` is the vocabulary of --train in 8 bits, `intel4` in 4. Size is
that of the parameters as they are stored; speed is that of single texts, from
text to answer, in turn with the full model; quality is the first metric of the
task.

Writes benchmarks/results/compression.json.
"""

import argparse
import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.table import Table

from benchmarks import runner
from bert_jax import loading
from bert_jax.compression import vocabulary
from bert_jax.data.records import RecordsConfig
from bert_jax.data.sources.labelled import BadRow
from bert_jax.evaluation import evaluate, tradeoff
from bert_jax.model import Model
from bert_jax.models import exits
from bert_jax.settings import UserError
from bert_jax.tasks import labelled


class Anchor(NamedTuple):
  """A published result, and the aim for ours."""

  method: str
  published: str
  aim: str


ANCHORS: Mapping[str, Anchor] = {
  # Sanh et al. (2019, arXiv:1910.01108).
  "distilbert": Anchor(
    "DistilBERT",
    "-40 % parameters, +60 % speed, 97 % of GLUE",
    "2x faster, -1 point",
  ),
  # Jiao et al. (2020, arXiv:1909.10351).
  "tinybert": Anchor(
    "TinyBERT-4",
    "7.5x smaller, 9.4x faster, 96.8 % of GLUE",
    "4x smaller, 3x faster, -2 points",
  ),
  # Xia et al. (2022, arXiv:2204.00408).
  "cofi": Anchor(
    "CoFi",
    "SST-2: 2.1x faster 93.0, 12.2x 90.4",
    "above fewer layers, fine-tuned",
  ),
  # Lagunas et al. (2021, arXiv:2109.04838).
  "nn_pruning": Anchor("nn_pruning", "SQuAD: 1.84x faster, +0.22 F1", ""),
  "intel": Anchor(
    "Intel Neural Compressor",
    "BERT-base, SST-2: 433 -> 111 MB, -0.8 point",
    "25 % of the bytes, -0.5 point",
  ),
  "intel4": Anchor("the same, 4 bits", "", ""),
  # Zhou et al. (2020, arXiv:2006.04152).
  "pabee": Anchor("PABEE", "1.62x faster, MNLI -0.9", "1.5x, -0.5 point"),
}


def _opened(
  where: str, task: str, given: Mapping[str, Any] | None = None
) -> Model:
  model = loading.load_model(where, task)
  if given is not None and model.task.exits.every:
    return loading.load_model(where, task, exits=given)
  return model


def _trimmed(model: Model, files: str, changes: Mapping[str, Any]) -> Model:
  """The model with the tokens of these texts."""
  rows = labelled.stream_inputs(
    RecordsConfig(eval=(files,), **changes), model.task
  )
  texts = [
    text
    for row in rows
    if not isinstance(row, BadRow)
    for text in vocabulary.texts(model.task, row.record)
  ]
  return vocabulary.trim(model, texts)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
  """The points of the full model and of all others."""
  changes: dict[str, Any] = {"header": not arguments.no_header}
  if arguments.columns:
    changes["columns"] = arguments.columns
  full = loading.load_model(arguments.model)
  task = full.task.name
  given = evaluate.source(arguments.model, full.task, arguments.data, **changes)

  def point(name: str, model: Model, bits: int = 0) -> tradeoff.Point:
    stored = model.in_bits(bits).in_float32() if bits else model
    found = evaluate.evaluate(stored, given)
    made = tradeoff.point(name, name, (), stored, full, found, bits)
    print(name, made.speedup, made.bytes, dict(made.metrics), flush=True)
    return made

  points = {"full": [point("full", full)]}
  leaving = exits.parse(arguments.exits)
  for kind, named in (("", arguments.student), ("-floor", arguments.floor)):
    for anchor, folders in named:
      name = f"{anchor}{kind}"
      points[name] = [
        point(name, _opened(where, task, leaving)) for where in folders
      ]
  if arguments.train is not None:
    smaller = _trimmed(full, arguments.train, changes)
    points["intel"] = [point("intel", smaller, 8)]
    points["intel4"] = [point("intel4", smaller, 4)]
  return {
    "points": {
      name: [dataclasses.asdict(x) for x in found]
      for name, found in points.items()
    },
  }


def _spread(values: Sequence[float], form: str) -> str:
  """The mean, and the range of several."""
  mean = format(statistics.mean(values), form)
  if len(values) == 1:
    return mean
  return f"{mean} ({format(min(values), form)} to {format(max(values), form)})"


def table(results: Mapping[str, Any]) -> Table:
  """A row for each anchor."""
  points = results["points"]
  (full,) = points["full"]
  metric = next(iter(full["metrics"]))
  columns = ("method", "published", "aim", "seeds", "bytes", "parameters")
  made = Table(*columns, "speedup", metric, "points", "without a teacher")

  def quality(name: str) -> list[float]:
    return [x["metrics"][metric] for x in points.get(name, ())]

  def row(name: str, anchor: Anchor) -> None:
    own = points[name]
    change = [100 * (x - full["metrics"][metric]) for x in quality(name)]
    floor = quality(f"{name}-floor")
    made.add_row(
      *anchor,
      str(len(own)),
      _spread([x["bytes"] / full["bytes"] for x in own], ".1%"),
      _spread([x["parameters"] / full["parameters"] for x in own], ".1%"),
      _spread([x["speedup"] for x in own], ".2f"),
      _spread(quality(name), ".4f"),
      _spread(change, "+.2f"),
      _spread(floor, ".4f") if floor else "",
    )

  row("full", Anchor("full model", "", ""))
  for name, anchor in ANCHORS.items():
    if name in points:
      row(name, anchor)
  return made


def _named(text: str) -> tuple[str, list[str]]:
  name, _, folders = text.partition("=")
  if name not in ANCHORS or not folders:
    raise argparse.ArgumentTypeError(
      f"expected NAME=MODEL,MODEL with one of {', '.join(ANCHORS)}, got {text}"
    )
  return name, folders.split(",")


def _columns(text: str) -> dict[str, str | int]:
  pairs = (part.partition("=") for part in text.split(","))
  return {a: int(b) if b.isdecimal() else b for a, _, b in pairs}


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints the table and writes the results."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--model", required=True)
  parser.add_argument("--data", required=True)
  parser.add_argument("--train")
  parser.add_argument("--columns", type=_columns)
  parser.add_argument("--no_header", action="store_true")
  parser.add_argument("--student", type=_named, action="append", default=[])
  parser.add_argument("--floor", type=_named, action="append", default=[])
  parser.add_argument("--exits", default="patience=2")
  arguments = parser.parse_args(argv)
  try:
    results = measure(arguments)
  except UserError as error:
    raise SystemExit(f"error: {error}") from None
  results["arguments"] = vars(arguments)
  results["machine"] = runner.machine()
  runner.write_results(runner.RESULTS / "compression.json", results)
  runner.print_table(table(results))


if __name__ == "__main__":
  main()
