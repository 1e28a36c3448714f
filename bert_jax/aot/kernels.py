"""The cycles inside of Pallas kernels, which the cost model does not count.

The TPU compiler also schedules kernels, and can dump the number of instruction
bundles of each; a core issues one bundle per cycle. The estimate is the bundles
times the steps of the grid: without stalls, with the code before and after the
loop over the grid and all branches in every step, and with each loop inside of
a step that is not unrolled counted once.
"""

import base64
import math
import os
import pathlib
import re
from collections.abc import Mapping
from typing import NamedTuple

from jax.experimental.mosaic.dialects import tpu
from jax.extend.mlir import ir

from bert_jax.aot import hlo

_LABEL = "final_bundles"
# The file of the whole program has all instructions.
_WHOLE = "-TLP-"
_BUNDLES = re.compile(r"total scheduled bundles:\s+(\d+)")
_PARALLEL = "#tpu.dimension_semantics<parallel>"
_GRID = re.compile(r"iteration_bounds = array<i64(?:: ([\d, ]+))?>")


class Kernels(NamedTuple):
  """The kernels of a program.

  `runs` counts executed kernels, `uncounted` those without a known schedule,
  whose cycles are missing.
  """

  runs: int
  uncounted: int
  cycles: int


def write_schedules(folder: pathlib.Path | str) -> None:
  """Makes the TPU compiler dump its schedules; before libtpu is loaded."""
  options = (
    f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
    f" --xla_jf_dump_llo_pass_label_regex={_LABEL}"
  )
  given = os.environ.get("LIBTPU_INIT_ARGS", "")
  os.environ["LIBTPU_INIT_ARGS"] = f"{given} {options}".strip()


def read_schedules(folder: pathlib.Path | str) -> dict[str, int]:
  """The number of bundles of each kernel, by `hlo.Instruction.kernel`."""
  found = {}
  for path in pathlib.Path(folder).glob(f"*schedule-analysis_{_LABEL}*"):
    if _WHOLE in path.name:
      continue
    text = path.read_text()
    kernel, bundles = hlo.kernel(text), _BUNDLES.search(text)
    if kernel and bundles:
      found[kernel] = int(bundles[1])
  return found


def count(
  program: hlo.Program, schedules: Mapping[str, int], cores: int = 1
) -> Kernels:
  """Counts the kernels that a program runs, and their cycles.

  Schedules are from `read_schedules`. Kernels that they lack, and kernels with
  an unknown grid, have no cycles. `cores` share the steps of parallel grids.
  """
  runs = hlo.kernel_runs(program)
  cycles = {
    kernel: schedules[kernel] * steps
    for kernel in runs
    if kernel in schedules and (steps := grid_steps(kernel, cores))
  }
  return Kernels(
    runs=sum(runs.values()),
    uncounted=sum(n for kernel, n in runs.items() if kernel not in cycles),
    cycles=sum(runs[kernel] * n for kernel, n in cycles.items()),
  )


def grid_steps(kernel: str, cores: int = 1) -> int | None:
  """The grid steps of a kernel on one core; None if the grid is unknown.

  The kernel is an MLIR module, as bytecode in base64.
  """
  with ir.Context() as context:
    tpu.register_dialect(context)
    # The operations of the module have versioned names.
    context.allow_unregistered_dialects = True
    try:
      module = str(ir.Module.parse(base64.b64decode(kernel)))
    except (ir.MLIRError, ValueError):
      return None
  found = _GRID.search(module)
  if not found:
    return None
  steps = math.prod(int(n) for n in (found[1] or "").split(",") if n)
  return -(-steps // cores) if _PARALLEL in module else steps
