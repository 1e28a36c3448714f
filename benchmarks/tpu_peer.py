"""Compares our update with that of Transformers' Flax BERT on TPUs.

`benchmarks.tpu_compile --peer` runs it. Transformers 4.57 is the last version
with Flax. The same compiler compiles both for one slice, with AdamW, float32
parameters and bfloat16 activations, the same dropout rates and as many rows per
chip. Transformers broadcasts the dropout mask of attention weights over rows
and heads; ours is compiled with that, and with an independent mask as in BERT.

At length 512, ours has packed rows and Transformers padded ones. The cost of a
non-padding token is the cost of an update over the share of its positions that
hold tokens: `--packing_efficiency`, measured by `python -m benchmarks.packing`.
"""

import dataclasses
import json
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import rich.console
from rich.table import Table

from benchmarks import cases, runner, tpu_updates
from benchmarks.cases import Case
from benchmarks.peers import Job
from bert_jax.aot import hlo
from bert_jax.aot.chips import CHIPS

_RESULTS = runner.RESULTS / "tpu_peer.json"
_THEIRS = "transformers, flax"
_ONE_MASK = "--config.model.attention_dropout_broadcast=rows"
_OURS = {
  "ours": (),
  "ours, one mask": (_ONE_MASK,),
  "ours, one mask, ZeRO-1": (_ONE_MASK, "--config.mesh.shard_optimizer=True"),
}


class PackingEfficiency(NamedTuple):
  """The share of non-padding tokens in rows of 512."""

  padded: float
  packed: float


class Cost(NamedTuple):
  """The cost of an update on one chip, as in `Analysis`; None: does not fit."""

  cycles: int | None
  hbm: int | None
  kernel_cycles: int = 0
  uncounted_kernels: int = 0


def theirs(python: str, model: str, length: int, topology: str) -> Cost:
  """Compiles the update of Transformers in the environment of the peers."""
  rows = tpu_updates.ROWS[length]
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
      return Cost(None, None)
    program = hlo.parse(text.read_text())
  return Cost(
    hlo.estimated_cycles(program),
    sum(hbm.values()),
    # Expected to be 0: its attention does not use kernels.
    uncounted_kernels=hlo.kernel_runs(program).total(),
  )


def ours(
  flags: Sequence[str],
  model: str,
  length: int,
  topology: str,
  max_sequences: int,
) -> Cost:
  """Compiles our update; at 512 for packed rows."""
  found = tpu_updates.analyze(
    model,
    length,
    topology,
    [
      "--config.optimizer.name=adamw",
      f"--config.data.max_sequences={max_sequences if length == 512 else 1}",
      *flags,
    ],
  )
  if not found.fits:
    return Cost(None, None)
  return Cost(
    found.cycles,
    sum(found.hbm.values()),
    found.kernel_cycles,
    found.uncounted_kernels,
  )


def compare(
  python: str,
  topology: str,
  models: Sequence[str],
  packing_efficiency: PackingEfficiency | None,
  max_sequences: int,
  versions: str,
) -> None:
  """Compiles all updates; writes and prints their costs.

  `packing_efficiency` is that of rows of 512, if it is known; `max_sequences`
  of a packed row.
  """
  console = rich.console.Console(stderr=True)
  results = {
    "topology": topology,
    "versions": versions,
    "packing_efficiency": packing_efficiency and packing_efficiency._asdict(),
    "max_sequences": max_sequences,
    "updates": [],
  }
  for model in models:
    for length in tpu_updates.ROWS:
      costs = {_THEIRS: theirs(python, model, length, topology)}
      for name, flags in _OURS.items():
        costs[name] = ours(flags, model, length, topology, max_sequences)
      results["updates"].append(
        {
          "model": model,
          "length": length,
          "costs": {name: cost._asdict() for name, cost in costs.items()},
        }
      )
      console.print(f"{model}, {length}: {costs}", markup=False)
      runner.write_results(_RESULTS, results)
  print_results(results)


def print_results(results: Mapping[str, Any]) -> None:
  """Prints the table."""
  packing_efficiency = results["packing_efficiency"] and PackingEfficiency(
    **results["packing_efficiency"]
  )
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
    base = update["costs"][_THEIRS]["cycles"]
    for implementation, cost in update["costs"].items():
      if cost["cycles"] is None:
        made.add_row(name, implementation, "does not fit")
        continue
      ratio = (
        cost["cycles"] / base if base and implementation != _THEIRS else None
      )
      made.add_row(
        name,
        implementation,
        f"{cost['cycles'] / 1e6:.1f} M",
        tpu_updates.in_kernels(
          cost["kernel_cycles"], cost["uncounted_kernels"]
        ),
        f"{cost['hbm'] / 2**30:.2f} GiB",
        f"{ratio:.2f}" if ratio else "-",
        _per_token(ratio, length, packing_efficiency),
      )
  runner.print_table(made)


def _per_token(
  ratio: float | None, length: int, packing_efficiency: PackingEfficiency | None
) -> str:
  """The ratio of the costs of a non-padding token, for a table."""
  if ratio is None or (length == 512 and packing_efficiency is None):
    return "-"
  if length == 512:
    ratio *= packing_efficiency.padded / packing_efficiency.packed
  return f"{ratio:.2f}"
