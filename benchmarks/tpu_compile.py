"""Ahead-of-time (AOT) analysis of updates on TPU slices by the TPU compiler.

  pip install -e '.[tpu]'
  python -m benchmarks.tpu_compile [--topology v5e:4x4 v5e:16x16 v5p:8x8x8]

  ./launch/peers.sh   # Once, for the environment of the peer.
  python -m benchmarks.tpu_compile --peer [--packing_efficiency PADDED PACKED]

Compiles the updates of BERT-base and BERT-large, at length 128 with 32 rows per
chip and at 512 with 8, data parallel in bfloat16, each in a new process. No TPU
is used: memory is reported by the compiler; times come from its cost model, and
inside of kernels from its schedule, at the clock rate of the chip. The compiler
is deterministic: the same versions give the same figures. Writes
benchmarks/results/tpu_compile.json and, for the last topology, the predicted
weak scaling as tpu_compile.png.

`--peer` compares our update with that of Flax BERT in Transformers 4.57, the
last version with Flax. The same compiler compiles both for one slice, with
AdamW, float32 parameters and bfloat16 activations, the same dropout rates and
as many rows per chip. Transformers broadcasts the dropout mask of attention
weights over rows and heads; ours is compiled with that, and with an independent
mask as in BERT. At length 512, ours has packed rows and Transformers padded
ones. The cost of a non-padding token is the cost of an update over the share of
its positions that hold tokens: `--packing_efficiency`, measured by `python -m
benchmarks.packing`. Writes benchmarks/results/tpu_peer.json.
"""

import dataclasses
import importlib.metadata
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import rich
import rich.console
from rich.table import Table

from benchmarks import cases, runner
from benchmarks.cases import PREDICTIONS, Case
from benchmarks.peers import Job
from bert_jax.aot import hlo, scaling
from bert_jax.aot.analysis import Analysis
from bert_jax.aot.chips import CHIPS

_TOPOLOGIES = ("v5e:4x4", "v5e:16x16", "v5p:8x8x8")
_MODELS = ("bert_base", "bert_large")
_ROWS = {128: 32, 512: 8}  # The rows per chip, by their length.
# The cycles, the memory and the kernels of an update on one chip, as in
# `Analysis`; None if it does not fit.
_Cost = dict[str, int] | None
_THEIRS = "transformers, flax"
_ONE_MASK = "--config.model.attention_dropout_broadcast=rows"
_OURS = {
  "ours": (),
  "ours, one mask": (_ONE_MASK,),
  "ours, one mask, ZeRO-1": (_ONE_MASK, "--config.mesh.shard_optimizer=True"),
}


def _in_kernels(cycles: int, uncounted: int) -> str:
  """The cycles inside of kernels and the kernels not counted, for a table."""
  found = f"{cycles / 1e6:.1f} M"
  return f"{found}, {uncounted} kernels not counted" if uncounted else found


def analyze(
  model: str, length: int, topology: str, flags: Sequence[str] = ()
) -> Analysis:
  """Analyzes an update, data parallel in bfloat16.

  `flags` are further flags of `launch.compile`.
  """
  shape = topology.partition(":")[2]
  chips = math.prod(int(n) for n in shape.split("x"))
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "found.json"
    ran = subprocess.run(
      [sys.executable, "-m", "launch.compile", f"--topology={topology}"]
      + [f"--json={path}", "--config=configs/pretrain/bert_base.py"]
      + [f"--config.model.preset={model}", f"--config.data.max_length={length}"]
      + [f"--config.data.max_predictions={PREDICTIONS[length]}"]
      + [f"--config.batch_size={_ROWS[length] * chips}", *flags],
      cwd=runner.ROOT,
      stdout=subprocess.DEVNULL,
      check=False,
    )
    if ran.returncode not in (0, 1):  # 1: the update does not fit.
      sys.exit(ran.returncode)
    entry = json.loads(path.read_text())
  return Analysis(
    **{name: math.nan if x is None else x for name, x in entry.items()}
  )


def _row(found: Analysis) -> list[str]:
  row = [found.topology, found.name, f"{found.rows // found.chips}"]
  if not found.fits:
    return [*row, "does not fit"]
  memory = sum(found.hbm.values())
  return [
    *row,
    f"{memory / 2**30:.2f} GiB, {memory / found.hbm_capacity:.0%}",
    f"{found.collectives.get('all-reduce', 0) / 2**20:,.0f} MiB",
    f"{found.cycles / 1e6:.1f} M",
    _in_kernels(found.kernel_cycles, found.uncounted_kernels),
    f"{found.seconds * 1e3:.1f} ms",
    f"{found.mfu:.0%}",
  ]


def compile_all(
  topologies: Sequence[str], models: Sequence[str], versions: str
) -> None:
  """Analyzes all updates; writes and prints the results."""
  table = Table(
    "slice", "update", "rows per chip", "HBM per chip", "all-reduce",
    "estimated cycles", "inside kernels", "estimated step",
    "estimated MFU", title=versions,
  )  # fmt: skip
  found = []
  for topology in topologies:
    for model in models:
      for length in _ROWS:
        found.append(analyze(model, length, topology))
        table.add_row(*_row(found[-1]))
        # After each update, as each takes minutes.
        runner.write_results(
          runner.RESULTS / "tpu_compile.json", [one.to_dict() for one in found]
        )
  rich.print(table)
  last = [one for one in found if one.topology == topologies[-1] and one.fits]
  scaling.draw(last, runner.RESULTS / "tpu_compile.png")


def theirs(python: str, model: str, length: int, topology: str) -> _Cost:
  """Compiles the update of Transformers in the environment of the peers."""
  rows = _ROWS[length]
  case = Case("training", length, rows, False, {"preset": model})
  with tempfile.TemporaryDirectory() as folder:
    path, text = (pathlib.Path(folder) / name for name in ("job", "text"))
    job = Job(
      module="flax_aot",
      kind="compile",
      model=case.bert_config,
      optimizer=cases.optimizer(cases.config(case, "", 1, {})),
      options={
        "topology": topology,
        "topology_options": CHIPS[topology.partition(":")[0]].options,
        "rows": rows,
        "length": length,
        "text": str(text),
      },
    )
    path.write_text(json.dumps(dataclasses.asdict(job)))
    hbm = runner.json_of(python, "benchmarks.peers.flax_aot", str(path))
    if hbm is None:
      return None
    program = hlo.parse(text.read_text())
  return {
    "cycles": hlo.estimated_cycles(program),
    "hbm": sum(hbm.values()),
    "kernel_cycles": 0,
    # Expected to be 0: its attention does not use kernels.
    "uncounted_kernels": hlo.kernel_runs(program).total(),
  }


def ours(
  flags: Sequence[str],
  model: str,
  length: int,
  topology: str,
  max_sequences: int,
) -> _Cost:
  """Compiles our update; at 512 for packed rows."""
  packed = max_sequences if length == 512 else 1
  own = ("--config.optimizer.name=adamw", *flags)
  own += (f"--config.data.max_sequences={packed}",)
  found = analyze(model, length, topology, own)
  if not found.fits:
    return None
  return {
    "cycles": found.cycles,
    "hbm": sum(found.hbm.values()),
    "kernel_cycles": found.kernel_cycles,
    "uncounted_kernels": found.uncounted_kernels,
  }


def compare(
  python: str,
  topology: str,
  models: Sequence[str],
  packing_efficiency: Sequence[float] | None,
  max_sequences: int,
  versions: str,
) -> None:
  """Compiles all updates; writes and prints their costs.

  `packing_efficiency` is that of rows of 512, if it is known.
  """
  console = rich.console.Console(stderr=True)
  results = {
    "topology": topology,
    "versions": versions,
    "packing_efficiency": packing_efficiency,
    "max_sequences": max_sequences,
    "updates": [],
  }
  for model in models:
    for length in _ROWS:
      costs = {_THEIRS: theirs(python, model, length, topology)}
      for name, flags in _OURS.items():
        costs[name] = ours(flags, model, length, topology, max_sequences)
      update = {"model": model, "length": length, "costs": costs}
      results["updates"].append(update)
      console.print(f"{model}, {length}: {costs}", markup=False)
      runner.write_results(runner.RESULTS / "tpu_peer.json", results)
  print_results(results)


def print_results(results: Mapping[str, Any]) -> None:
  """Prints the table."""
  made = Table(
    f"update on {results['topology']}; {results['versions']}",
    "implementation",
    "estimated cycles",
    "inside kernels",
    "HBM per chip",
    "/ theirs, per update",
    "/ theirs, per non-padding token",
  )
  for update in results["updates"]:
    name, length = f"{update['model']}, {update['length']}", update["length"]
    theirs = update["costs"][_THEIRS]
    for implementation, cost in update["costs"].items():
      if cost is None:
        made.add_row(name, implementation, "does not fit")
        continue
      ratio = None
      if theirs and implementation != _THEIRS:
        ratio = cost["cycles"] / theirs["cycles"]
      made.add_row(
        name,
        implementation,
        f"{cost['cycles'] / 1e6:.1f} M",
        _in_kernels(cost["kernel_cycles"], cost["uncounted_kernels"]),
        f"{cost['hbm'] / 2**30:.2f} GiB",
        f"{ratio:.2f}" if ratio else "-",
        _per_token(ratio, length, results["packing_efficiency"]),
      )
  runner.print_table(made)


def _per_token(
  ratio: float | None, length: int, packing_efficiency: Sequence[float] | None
) -> str:
  """The ratio of the costs of a non-padding token, for a table."""
  if ratio is None or (length == 512 and packing_efficiency is None):
    return "-"
  if length == 512:
    padded, packed = packing_efficiency
    ratio *= padded / packed
  return f"{ratio:.2f}"


def main() -> None:
  parser = runner.parser(__doc__)
  parser.add_argument("--topology", nargs="+", help="CHIP:SHAPE")
  parser.add_argument("--models", nargs="+", default=_MODELS, choices=_MODELS)
  parser.add_argument(
    "--peer",
    nargs="?",
    const=str(runner.PEERS),
    metavar="PYTHON",
    help="compare with Transformers, by this Python",
  )
  parser.add_argument(
    "--packing_efficiency",
    nargs=2,
    type=float,
    metavar=("PADDED", "PACKED"),
    help="of rows of 512; see benchmarks.packing",
  )
  parser.add_argument("--max_sequences", type=int, default=16)
  arguments = parser.parse_args()
  versions = ", ".join(
    f"{name} {importlib.metadata.version(name)}" for name in ("jax", "libtpu")
  )
  if not arguments.peer:
    return compile_all(
      arguments.topology or _TOPOLOGIES, arguments.models, versions
    )
  if shutil.which(arguments.peer) is None:
    parser.error(f"--peer: no program {arguments.peer}; see ./launch/peers.sh")
  for topology in arguments.topology or ["v5e:2x2"]:
    compare(
      arguments.peer,
      topology,
      arguments.models,
      arguments.packing_efficiency,
      arguments.max_sequences,
      versions,
    )


if __name__ == "__main__":
  main()
