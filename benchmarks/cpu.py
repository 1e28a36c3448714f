"""Compares BERT-base on the CPU in float32 with other libraries.

  ./launch/peers.sh   # Once, for the environment of the peers.
  python -m benchmarks.cpu --text FILE ... [--cases training-128] [--rounds 3]

Weights are random. Training uses AdamW, dropout 0.1, and the losses of masked
tokens and of next sentences (keras-hub: of masked tokens). All implementations
get rows of the same text, on the same cores. Where rows have real lengths,
bert_jax packs sequences, or sorts texts by length, as by default; the peers get
one sequence per row, padded to 512, and `torch-trimmed` truncates each batch to
its longest row. Inference of bert_jax starts from text, that of the peers from
token ids.

Implementations run in turn, each time in a new process with a warm-up. Rates
are non-padding tokens per second. `of the peak` is the FLOPs that the
mathematics requires (`batches.BatchFile.flops`) over the peak of the machine in
products of large float32 matrices, the faster of PyTorch and JAX. `torch-bf16`
computes in bfloat16 and does not count as a peer in the last line.

Writes benchmarks/results/cpu.json. `--tiny` only tests the benchmark itself.
"""

import argparse
import pathlib
import statistics
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from rich.table import Table

from benchmarks import batches, cases, runner
from benchmarks.cases import Case, Text
from benchmarks.peers import Job
from benchmarks.runner import Entry

_RESULTS = runner.RESULTS / "cpu.json"
# The sizes of the matrices whose products give the peak of the machine.
_SIZE, _TINY_SIZE = 4096, 256


class _Implementation(NamedTuple):
  """A module of `benchmarks.peers` with its options, and where it is used."""

  module: str
  options: Mapping[str, Any] = {}
  only_real: bool = False
  is_peer: bool = True


_IMPLEMENTATIONS = {
  "ours": _Implementation("ours", is_peer=False),
  "torch": _Implementation("pytorch"),
  "torch-compiled": _Implementation("pytorch", {"compile": True}),
  "torch-trimmed": _Implementation("pytorch", {"trim": True}, only_real=True),
  "torch-bf16": _Implementation("pytorch", {"autocast": True}, is_peer=False),
  "keras-hub": _Implementation("keras_hub"),
  "flax": _Implementation("flax_bert"),
}


def make_cases(batch: int, model: Mapping[str, Any]) -> dict[str, Case]:
  """The cases by name."""
  made = (
    Case("training", 128, batch, False, model),
    Case("training", 512, max(1, batch // 4), True, model),
    Case("inference", 128, batch, False, model),
    Case("inference", 512, batch, True, model),
  )
  return {case.name: case for case in made}


def entries(
  case: Case, corpus: Text, arguments: argparse.Namespace, folder: pathlib.Path
) -> dict[str, Entry]:
  """The job of each implementation; writes its batches."""
  count = arguments.warmup + arguments.steps
  packs = arguments.max_sequences if case.real else 1
  configs = {
    "peers": cases.config(case, corpus.folder, 1, {}),
    "ours": cases.config(case, corpus.folder, packs, dict(arguments.ours)),
  }
  if case.kind == "training":
    own, padded = (
      batches.write_rows(
        case, configs[name], count, arguments.warmup, folder / f"{name}.npz"
      )
      for name in ("ours", "peers")
    )
  else:
    own, padded = batches.write_texts(case, corpus, arguments.steps, folder)
  # Our inference starts from text.
  own_options = {"tokenizer": corpus.folder, "length": case.length}
  own_options["rows"] = case.rows
  made = {}
  for name in arguments.implementations:
    implementation = _IMPLEMENTATIONS[name]
    if implementation.only_real and not case.real:
      continue
    is_ours = implementation.module == "ours"
    file = own if is_ours else padded
    job = Job(
      module=implementation.module,
      kind=case.kind,
      model=configs["ours"]["model"] if is_ours else case.bert_config,
      optimizer=cases.optimizer(configs["ours"]),
      options=own_options if is_ours else implementation.options,
      config=configs["ours"],
      batches=file.path,
      warmup=arguments.warmup,
      threads=arguments.threads,
    )
    made[name] = Entry(job, file, _python(implementation.module, arguments))
  return made


def peak_entries(arguments: argparse.Namespace) -> dict[str, Entry]:
  """The jobs of matrix products in JAX and in PyTorch."""
  size = _TINY_SIZE if arguments.tiny else _SIZE
  options, threads = {"size": size}, arguments.threads
  return {
    name: Entry(
      Job(module=name, kind="peak", options=options, threads=threads),
      None,
      _python(name, arguments),
    )
    for name in ("ours", "pytorch")
  }


def _python(module: str, arguments: argparse.Namespace) -> str:
  return sys.executable if module == "ours" else arguments.peer_python


def peak(results: Mapping[str, Any]) -> float:
  """The maximum FLOPs per second of matrix products in JAX and PyTorch."""
  size = _TINY_SIZE if results["arguments"]["tiny"] else _SIZE
  return max(
    2 * size**3 * ran["count"] / ran["seconds"]
    for result in results["peak"].values()
    for ran in result["runs"]
    if "error" not in ran
  )


def table(results: Mapping[str, Any], case: Mapping[str, Any]) -> Table:
  """The table of a case."""
  found, limit = case["results"], peak(results)
  made = Table(
    case["name"],
    "non-padding tokens/s (range)",
    "packing efficiency",
    "ours / it (range)",
    "of the peak",
    "start, s",
  )
  for name, result in found.items():
    rates = runner.rates(result)
    if not rates:
      made.add_row(name, "failed")
      continue
    tokens, positions = result["tokens"], result["positions"]
    share = statistics.median(runner.rates(result, "flops")) / limit
    ready = statistics.median(ran["ready_seconds"] for ran in result["runs"])
    made.add_row(
      name,
      runner.spread(rates),
      f"{tokens / positions:.0%}" if positions else "by length",
      runner.spread(runner.ratios(found["ours"], result), ".2f")
      if name != "ours" and "ours" in found
      else "-",
      f"{share:.0%}",
      f"{ready:.0f}",
    )
  return made


def verdict(case: Mapping[str, Any]) -> str:
  """Compares ours with the fastest peer in float32, in one line."""
  found = case["results"]
  peers = {
    name: statistics.median(runner.rates(result))
    for name, result in found.items()
    if _IMPLEMENTATIONS[name].is_peer and runner.rates(result)
  }
  if not peers or not runner.rates(found.get("ours", {"runs": []})):
    return f"{case['name']}: nothing to compare"
  best = max(peers, key=peers.get)
  ratio = runner.spread(runner.ratios(found["ours"], found[best]), ".2f")
  return f"{case['name']}: {ratio} times the fastest peer, {best}"


def _arguments() -> argparse.Namespace:
  parser = runner.parser(__doc__)
  known = list(make_cases(1, {}))
  parser.add_argument("--cases", nargs="+", default=known, choices=known)
  parser.add_argument(
    "--implementations",
    nargs="+",
    default=list(_IMPLEMENTATIONS),
    choices=_IMPLEMENTATIONS,
  )
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument(
    "--batch",
    type=int,
    default=16,
    help="rows; a quarter of it for training at 512",
  )
  parser.add_argument("--steps", type=int, default=6, help="timed steps")
  # The first updates page-fault their memory in.
  parser.add_argument("--warmup", type=int, default=8)
  parser.add_argument("--output", type=pathlib.Path, default=_RESULTS)
  runner.add_arguments(parser)
  cases.add_arguments(parser)
  arguments = parser.parse_args()
  runner.check(parser, arguments)
  return arguments


def main() -> None:
  arguments = _arguments()
  runner.use_cores(arguments.threads)
  model = cases.TINY if arguments.tiny else {"preset": "bert_base"}
  known = make_cases(arguments.batch, model)
  results = {
    "machine": runner.machine(),
    "peak": runner.alternate(peak_entries(arguments), 1),
  }
  chosen = {name: known[name] for name in arguments.cases}
  runner.measure(results, chosen, entries, arguments, arguments.output)
  limit = f"float32 peak: {peak(results) / 1e9:,.0f} GFLOP/s"
  runner.print_results(results, f"{runner.title(results)}\n{limit}", table)
  for case in results["cases"]:
    print(verdict(case))


if __name__ == "__main__":
  main()
