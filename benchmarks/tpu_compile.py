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
"""

import importlib.metadata
import shutil
from collections.abc import Sequence

import rich
from rich.table import Table

from benchmarks import runner, tpu_peer, tpu_updates
from bert_jax.aot import scaling
from bert_jax.aot.analysis import Analysis

_TOPOLOGIES = ("v5e:4x4", "v5e:16x16", "v5p:8x8x8")


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
    tpu_updates.in_kernels(found.kernel_cycles, found.uncounted_kernels),
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
      for length in tpu_updates.ROWS:
        found.append(tpu_updates.analyze(model, length, topology))
        table.add_row(*_row(found[-1]))
        # After each update, as each takes minutes.
        runner.write_results(
          runner.RESULTS / "tpu_compile.json", [one.to_dict() for one in found]
        )
  rich.print(table)
  last = [one for one in found if one.topology == topologies[-1] and one.fits]
  scaling.draw(last, runner.RESULTS / "tpu_compile.png")


def main() -> None:
  parser = runner.parser(__doc__)
  parser.add_argument("--topology", nargs="+", help="CHIP:SHAPE")
  parser.add_argument(
    "--models",
    nargs="+",
    default=tpu_updates.MODELS,
    choices=tpu_updates.MODELS,
  )
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
    tpu_peer.compare(
      arguments.peer,
      topology,
      arguments.models,
      tpu_peer.PackingEfficiency(*arguments.packing_efficiency)
      if arguments.packing_efficiency
      else None,
      arguments.max_sequences,
      versions,
    )


if __name__ == "__main__":
  main()
