"""Cycles inside kernels, of which the compiler's cost model counts none.

A Pallas kernel is to the cost model a call that takes no time. But the TPU's
compiler schedules it too, and can be asked to write out how many bundles of
instructions it made; a core issues one in a cycle. A kernel here takes its
bundles times the steps of its grid, as if none had to wait, and as if what is
before and after the grid's loop, and each branch in it, were run in each step.
Loops inside of a step that the compiler leaves loops count once.
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
# The program as a whole, with all instructions, has a file as well.
_WHOLE = "-TLP-"
_BUNDLES = re.compile(r"total scheduled bundles:\s+(\d+)")
_PARALLEL = "#tpu.dimension_semantics<parallel>"
_GRID = re.compile(r"iteration_bounds = array<i64(?:: ([\d, ]+))?>")


class Kernels(NamedTuple):
  """The kernels of a program.

  Attributes:
    runs: how many are run, each time that they are.
    uncounted: how many of those no schedule is known of.
    cycles: of the others together.
  """

  runs: int
  uncounted: int
  cycles: int


def write_schedules(folder: pathlib.Path | str) -> None:
  """Makes the TPU's compiler write its schedules, if it was not loaded yet.

  Args:
    folder: where to; for `read_schedules`.
  """
  options = (
    f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true"
    f" --xla_jf_dump_llo_pass_label_regex={_LABEL}"
  )
  given = os.environ.get("LIBTPU_INIT_ARGS", "")
  os.environ["LIBTPU_INIT_ARGS"] = f"{given} {options}".strip()


def read_schedules(folder: pathlib.Path | str) -> dict[str, int]:
  """The bundles of each compiled kernel, by `hlo.Instruction.kernel`."""
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

  Args:
    program: compiled.
    schedules: from `read_schedules`; whose kernels are not in it, and those
      whose grid cannot be told, are not counted in the cycles.
    cores: that share the steps of grids that are declared parallel.
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
  """The steps of a kernel's grid on a core; None where they cannot be told.

  Args:
    kernel: what it was made of, an MLIR module as bytes in base64.
    cores: that there are.
  """
  with ir.Context() as context:
    tpu.register_dialect(context)
    # The module is written in versioned names of operations.
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
