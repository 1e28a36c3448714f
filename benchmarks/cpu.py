"""BERT-base on the CPU in float32, beside what a user would otherwise pick.

  ./launch/peers.sh   # Once, for the environment of the peers.
  python -m benchmarks.cpu --text FILE ... [--cases training-128] [--rounds 3]

Random weights; AdamW, dropout 0.1 and the loss of masked words and of pairs
(keras-hub: of masked words). All sides have rows of the same text, on the same
cores. Where rows have real lengths, bert_jax packs them, or sorts texts by
length, as it does for its users, and the peers get a sequence to a row, padded
to 512; `torch-trimmed` cuts each batch to its longest row. bert_jax begins
inference with text, the others with token ids.

Sides take turns, each time in a new process that warms up before the clock
starts. A rate is in tokens that are no padding. `of the peak` is what the
mathematics of these tokens needs (`drawing.Drawn.flops`) over what the machine
does in products of large float32 matrices, the faster of PyTorch's and ours.
`torch-bf16` computes in bfloat16 and is not among the peers of the last line.

Writes benchmarks/results/cpu.json. `--tiny` only shows that all of it runs.
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from rich.table import Table

from benchmarks import cases, drawing, runner
from benchmarks.cases import Case, Text
from benchmarks.peers import Job
from benchmarks.runner import Entry
from bert_jax.settings import UserError

_RESULTS = runner.ROOT / "benchmarks" / "results" / "cpu.json"
# Of the matrices whose products are the machine's peak.
_SIZE, _TINY_SIZE = 4096, 256


class _Side(NamedTuple):
  """A side: its module, its options, and where it is of interest."""

  module: str
  options: Mapping[str, Any] = {}
  only_real: bool = False
  is_peer: bool = True


_SIDES = {
  "ours": _Side("ours", is_peer=False),
  "torch": _Side("pytorch"),
  "torch-compiled": _Side("pytorch", {"compile": True}),
  "torch-trimmed": _Side("pytorch", {"trim": True}, only_real=True),
  "torch-bf16": _Side("pytorch", {"autocast": True}, is_peer=False),
  "keras-hub": _Side("keras_hub"),
  "flax": _Side("flax_bert"),
}


def make_cases(batch: int, model: Mapping[str, Any]) -> dict[str, Case]:
  """All cases by name."""
  made = (
    Case("training", 128, batch, False, model),
    Case("training", 512, max(1, batch // 4), True, model),
    Case("inference", 128, batch, False, model),
    Case("inference", 512, batch, True, model),
  )
  return {case.name: case for case in made}


def entries(
  case: Case, given: Text, arguments: argparse.Namespace, folder: pathlib.Path
) -> dict[str, Entry]:
  """What each side does, its batches drawn."""
  count = arguments.warmup + arguments.steps
  packs = arguments.max_sequences if case.real else 1
  changes = dict(arguments.ours)
  configs = {
    "peers": cases.config(case, given.folder, 1, {}),
    "ours": cases.config(case, given.folder, packs, changes),
  }
  if case.kind == "training":
    own, padded = (
      drawing.draw(
        case, configs[name], count, arguments.warmup, folder / f"{name}.npz"
      )
      for name in ("ours", "peers")
    )
  else:
    own, padded = drawing.draw_texts(case, given, arguments.steps, folder)
  made = {}
  for name in arguments.sides:
    side = _SIDES[name]
    if side.only_real and not case.real:
      continue
    is_ours = side.module == "ours"
    drawn = own if is_ours else padded
    job = Job(
      module=side.module,
      kind=case.kind,
      model=configs["ours"]["model"] if is_ours else case.sizes,
      optimizer=cases.optimizer(configs["ours"]),
      options=_options(case, given) if is_ours else side.options,
      config=configs["ours"],
      batches=drawn.path,
      warmup=arguments.warmup,
      threads=arguments.threads,
    )
    made[name] = Entry(job, drawn, _python(side.module, arguments))
  return made


def peak_entries(arguments: argparse.Namespace) -> dict[str, Entry]:
  """Matrix products on both sides."""
  size = _TINY_SIZE if arguments.tiny else _SIZE
  made = {}
  for name in ("ours", "pytorch"):
    job = Job(
      module=name,
      kind="peak",
      options={"size": size},
      threads=arguments.threads,
    )
    made[name] = Entry(job, None, _python(name, arguments))
  return made


def _options(case: Case, given: Text) -> dict[str, Any]:
  """What our side needs besides the model, to begin with text."""
  return {"tokenizer": given.folder, "length": case.length, "rows": case.rows}


def _python(module: str, arguments: argparse.Namespace) -> str:
  return sys.executable if module == "ours" else arguments.peer_python


def peak(results: Mapping[str, Any]) -> float:
  """The most FLOPs a second that either side did in matrix products."""
  size = _TINY_SIZE if results["arguments"]["tiny"] else _SIZE
  best = [
    2 * size**3 * ran["count"] / ran["seconds"]
    for side in results["peak"].values()
    for ran in side["runs"]
    if "error" not in ran
  ]
  return max(best)


def table(results: Mapping[str, Any], case: Mapping[str, Any]) -> Table:
  """The table of a case."""
  found, limit = case["sides"], peak(results)
  made = Table(
    case["name"],
    "non-padding tokens/s (range)",
    "rows full",
    "ours / it (range)",
    "of the peak",
    "start, s",
  )
  for name, side in found.items():
    rates = runner.rates(side)
    if not rates:
      made.add_row(name, "failed")
      continue
    full = side["tokens"] / side["positions"] if side["positions"] else None
    share = statistics.median(runner.rates(side, "flops")) / limit
    ready = statistics.median(ran["ready_seconds"] for ran in side["runs"])
    made.add_row(
      name,
      runner.spread(rates),
      f"{full:.0%}" if full else "by length",
      runner.spread(runner.ratios(found["ours"], side), ".2f")
      if name != "ours" and "ours" in found
      else "-",
      f"{share:.0%}",
      f"{ready:.0f}",
    )
  return made


def verdict(case: Mapping[str, Any]) -> str:
  """How ours stands beside the fastest peer in float32."""
  found = case["sides"]
  peers = {
    name: statistics.median(runner.rates(side))
    for name, side in found.items()
    if _SIDES[name].is_peer and runner.rates(side)
  }
  if not peers or not runner.rates(found.get("ours", {"runs": []})):
    return f"{case['name']}: nothing to compare"
  best = max(peers, key=peers.get)
  ratio = runner.spread(runner.ratios(found["ours"], found[best]), ".2f")
  return f"{case['name']}: {ratio} times the fastest peer, {best}"


def print_results(results: Mapping[str, Any]) -> None:
  """Prints the tables."""
  if results["arguments"]["tiny"]:
    print("A tiny model: this shows that it runs, and no speed.")
  print(runner.title(results))
  print(f"float32 peak: {peak(results) / 1e9:,.0f} GFLOP/s")
  for case in results["cases"]:
    runner.print_table(table(results, case))
  for case in results["cases"]:
    print(verdict(case))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
  """All cases, written as they are done: each takes a while."""
  model = cases.TINY if arguments.tiny else {"preset": "bert_base"}
  known = make_cases(arguments.batch, model)
  results = {
    "machine": runner.machine(),
    "arguments": vars(arguments),
    "peak": runner.alternate(peak_entries(arguments), 1),
    "cases": [],
  }
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    given = Text.prepare(arguments.text, arguments.documents, folder)
    for case in [known[name] for name in arguments.cases]:
      found = runner.alternate(
        entries(case, given, arguments, folder), arguments.rounds
      )
      entry = {"name": case.name, **dataclasses.asdict(case), "sides": found}
      results["cases"].append(entry)
      if not arguments.tiny:
        arguments.output.parent.mkdir(exist_ok=True)
        arguments.output.write_text(runner.to_json(results))
  return results


def _arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  known = list(make_cases(1, {}))
  parser.add_argument("--cases", nargs="+", default=known, choices=known)
  parser.add_argument(
    "--sides", nargs="+", default=list(_SIDES), choices=_SIDES
  )
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument(
    "--batch", type=int, default=16, help="rows; of training at 512 a quarter"
  )
  parser.add_argument("--steps", type=int, default=6, help="that are timed")
  # The first updates still get memory from the kernel, page by page.
  parser.add_argument("--warmup", type=int, default=8)
  parser.add_argument("--output", type=pathlib.Path, default=_RESULTS)
  runner.add_arguments(parser)
  cases.add_arguments(parser)
  arguments = parser.parse_args(argv)
  runner.check(parser, arguments)
  return arguments


def main() -> None:
  arguments = _arguments()
  # New threads and processes get these cores and count only them.
  cores = sorted(os.sched_getaffinity(0))[: arguments.threads]
  os.sched_setaffinity(0, cores)
  jax.config.update("jax_platforms", "cpu")
  try:
    results = measure(arguments)
  except UserError as error:
    raise SystemExit(f"error: {error}") from None
  print_results(results)


if __name__ == "__main__":
  main()
