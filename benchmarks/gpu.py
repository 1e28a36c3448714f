"""Compares BERT pretraining on one GPU in bfloat16 with Transformers.

  pip install -e '.[cuda]' && ./launch/peers.sh
  python -m benchmarks.gpu [--text FILE ...] [--models bert_large] [--rounds 3]

Measures updates of BERT-base and BERT-large on full rows of 128 tokens, and on
sequences of real lengths in rows of 512. There bert_jax is measured with one
sequence per row and with packing, for each attention backend (`shared`: the
dropout mask of attention weights is broadcast over queries). Transformers uses
PyTorch with `sdpa` attention and `torch.compile`: `torch-compiled` predicts
every position, as in the library; `torch-gathered` has a head that only
predicts masked positions. Parameters and moments are in float32; all use AdamW
and dropout 0.1.

MFU is the FLOPs that the mathematics of non-padding tokens requires
(`batches.BatchFile.flops`) over the dense bfloat16 peak of the device.
Implementations run in turn in new processes, as in `benchmarks.cpu`. Writes
benchmarks/results/gpu.json. Without a GPU the exit code is 1; `--tiny` tests
everything except cuDNN on the CPU.
"""

import argparse
import dataclasses
import os
import pathlib
import statistics
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import jax
from rich.table import Table

from benchmarks import batches, cases, runner
from benchmarks.cases import Case, Text
from benchmarks.peers import Job
from benchmarks.runner import Entry
from bert_jax.models import flops

_RESULTS = runner.RESULTS / "gpu.json"
_MODELS = ("bert_base", "bert_large")
_LENGTHS = {128: False, 512: True}  # Whether rows have real lengths.
_PEERS = {
  "torch-compiled": {"compile": True, "autocast": True},
  "torch-gathered": {"compile": True, "autocast": True, "gathered": True},
}
_REFERENCE = "torch-compiled"
# cuDNN has no dropout of attention weights, but all backends support a mask
# that is broadcast over queries.
_SHARED = {"model.attention_dropout_broadcast": "queries"}
_ATTENTION = {
  "xla": {"model.attention": "xla"},
  "xla-shared": {"model.attention": "xla", **_SHARED},
  "cudnn-shared": {"model.attention": "cudnn", **_SHARED},
  "auto-shared": {"model.attention": "auto", **_SHARED},
}
# The defaults with `--tiny`, for a CPU.
_TINY = {
  "attention": [name for name in _ATTENTION if not name.startswith("cudnn")],
  "rounds": 1,
  "tokens": 1024,
  "steps": 2,
  "warmup": 1,
}
_DEVICE = "import jax; print(jax.devices('gpu')[0].device_kind)"


def device() -> str | None:
  """The kind of the GPU; None if there is none."""
  env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
  ran = subprocess.run(
    [sys.executable, "-c", _DEVICE],
    capture_output=True,
    text=True,
    env=env,
    check=False,
  )
  return None if ran.returncode else ran.stdout.splitlines()[-1]


def entries(
  case: Case, corpus: Text, arguments: argparse.Namespace, folder: pathlib.Path
) -> dict[str, Entry]:
  """The job of each implementation; writes its batches."""
  warmup = arguments.warmup
  packing = {"padded": 1}
  if case.real:
    packing["packed"] = arguments.max_sequences
  made, files = {}, {}
  for form, most in packing.items():
    config = cases.config(case, corpus.folder, most, {})
    files[form] = batches.write_rows(
      case, config, warmup + arguments.steps, warmup, folder / f"{form}.npz"
    )
    for name in arguments.attention:
      changes = {"model.dtype": "bfloat16", **_ATTENTION[name]}
      changes |= dict(arguments.ours)
      config = cases.config(case, corpus.folder, most, changes)
      job = Job(module="ours", kind="training", config=config)
      made[f"ours, {form}, {name}"] = Entry(job, files[form])
  for name, options in _PEERS.items():
    job = Job(
      module="pytorch",
      kind="training",
      model=case.bert_config,
      optimizer=cases.optimizer(config),
      options=options,
    )
    made[name] = Entry(job, files["padded"], arguments.peer_python)
  return {
    name: entry._replace(
      job=dataclasses.replace(
        entry.job,
        batches=entry.batches.path,
        warmup=warmup,
        platform="cpu" if arguments.tiny else "gpu",
        threads=arguments.threads,
      )
    )
    for name, entry in made.items()
  }


def table(results: Mapping[str, Any], case: Mapping[str, Any]) -> Table:
  """The table of a case."""
  found, limit = case["results"], flops.peak_flops(results["device"])
  made = Table(
    case["name"],
    "sequences/s (range)",
    "non-padding tokens/s",
    "packing efficiency",
    "MFU",
    "/ torch-compiled (range)",
    "start, s",
  )
  for name, result in found.items():
    if not runner.seconds(result):
      made.add_row(name, "failed")
      continue
    work = statistics.median(runner.rates(result, "flops"))
    ready = statistics.median(ran["ready_seconds"] for ran in result["runs"])
    ratio = runner.ratios(result, found[_REFERENCE])
    made.add_row(
      name,
      runner.spread(runner.rates(result, "sequences"), ",.1f"),
      f"{statistics.median(runner.rates(result)):,.0f}",
      f"{result['tokens'] / result['positions']:.0%}",
      f"{work / limit:.0%}" if limit else "-",
      runner.spread(ratio, ".2f") if name != _REFERENCE and ratio else "-",
      f"{ready:.0f}",
    )
  return made


def make_cases(arguments: argparse.Namespace) -> dict[str, Case]:
  """The cases by name."""
  made = {}
  for preset in arguments.models:
    for length in arguments.lengths:
      model = cases.TINY if arguments.tiny else {"preset": preset}
      # Large models need more memory.
      share = 1 if preset == "bert_base" else 2
      rows = max(1, arguments.tokens // length // share)
      case = Case("training", length, rows, _LENGTHS[length], model)
      made[f"{preset}-{length}"] = case
  return made


def _arguments() -> argparse.Namespace:
  parser = runner.parser(__doc__)
  parser.add_argument("--models", nargs="+", default=_MODELS, choices=_MODELS)
  parser.add_argument(
    "--lengths", nargs="+", type=int, default=[*_LENGTHS], choices=_LENGTHS
  )
  parser.add_argument(
    "--attention", nargs="+", default=[*_ATTENTION], choices=_ATTENTION
  )
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument(
    "--tokens",
    type=int,
    default=32_768,
    help="positions of a batch; half of it for BERT-large",
  )
  parser.add_argument("--steps", type=int, default=30, help="timed steps")
  parser.add_argument("--warmup", type=int, default=5)
  runner.add_arguments(parser)
  cases.add_arguments(parser)
  if parser.parse_args().tiny:
    parser.set_defaults(**_TINY)
  arguments = parser.parse_args()
  runner.check(parser, arguments)
  return arguments


def main() -> None:
  arguments = _arguments()
  kind = "cpu" if arguments.tiny else device()
  if kind is None:
    raise SystemExit("error: JAX finds no GPU; see --help")
  # This process leaves the GPU to those of the implementations.
  jax.config.update("jax_platforms", "cpu")
  results = {"machine": runner.machine(), "device": kind}
  runner.measure(results, make_cases(arguments), entries, arguments, _RESULTS)
  runner.print_results(results, f"{kind}; {runner.title(results)}", table)


if __name__ == "__main__":
  main()
