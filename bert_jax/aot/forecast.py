"""What a compiled update will take of a chip: memory, time, communication."""

import dataclasses
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import rich.console
import rich.table

from bert_jax.aot import chips, hlo, kernels
from bert_jax.aot.chips import Chip
from bert_jax.aot.lowering import Ahead, lower
from bert_jax.models import flops
from bert_jax.training import compilation
from bert_jax.training.recipe import Recipe

# Of the buffers that do not fit, so many are told.
_LARGEST = 8


@dataclasses.dataclass(frozen=True)
class Forecast:
  """Figures of one update; memory, work and communication are of one chip.

  Attributes:
    name: the encoder and the length of its rows.
    topology: the slice, as `v5e:4x4`.
    chips: how many it has.
    mesh: the sizes of its axes.
    rows: of an update, over all chips.
    length: of a row.
    fits: whether the compiler found room.
    hbm_capacity: of a chip, in bytes.
    hbm: bytes by kind; what an update that does not fit would take is known
      only for what it is given.
    largest: of an update that does not fit, the compiler's own words.
    flops: that the mathematics of the update needs.
    collectives: bytes that each kind of collective takes or gives.
    cycles: by the compiler's cost model, as if nothing overlapped, and in
      kernels by its schedule; 0 if the update does not fit.
    kernels: how many Pallas kernels an update runs.
    kernel_cycles: those of `cycles` that are inside of kernels.
    uncounted_kernels: how many of the kernels `cycles` has nothing of.
    seconds: an estimate of the step time: the cycles, at the chip's clock.
    mfu: an estimate: the FLOPs over what the chip could do in that time.
  """

  name: str
  topology: str
  chips: int
  mesh: Mapping[str, int]
  rows: int
  length: int
  fits: bool
  hbm_capacity: int
  hbm: Mapping[str, int]
  largest: Sequence[str]
  flops: float
  collectives: Mapping[str, int]
  cycles: int = 0
  kernels: int = 0
  kernel_cycles: int = 0
  uncounted_kernels: int = 0
  seconds: float = math.nan
  mfu: float = math.nan

  def to_dict(self) -> dict[str, Any]:
    """The same for JSON, null where nothing is known."""
    return {
      name: None if isinstance(x, float) and math.isnan(x) else x
      for name, x in dataclasses.asdict(self).items()
    }


def forecast(
  recipe: Recipe, topology: str, schedules: pathlib.Path | str | None = None
) -> Forecast:
  """Compiles a recipe's update for a slice, and reads what came out.

  Args:
    recipe: of pretraining.
    topology: as `v5e:4x4`.
    schedules: where `kernels.write_schedules` makes the compiler write them;
      None counts no cycles inside of kernels.

  Raises:
    UserError: there is no such slice, or the recipe does not fit it.
  """
  chip, devices = chips.topology(topology)
  ahead = lower(recipe, devices)
  task = ahead.task
  rows, length = ahead.batch.token_ids.shape
  per_token = flops.training_flops_per_token(
    task.config, length, ahead.data.predictions
  )
  known = Forecast(
    name=f"{recipe.model.get('preset', 'encoder')}, length {length}",
    topology=topology,
    chips=len(devices),
    mesh=dict(ahead.layout.mesh.shape),
    rows=rows,
    length=length,
    fits=False,
    hbm_capacity=chip.hbm_bytes,
    hbm=_given(ahead),
    largest=(),
    flops=rows * length * per_token / len(devices),
    collectives={},
  )
  try:
    compiled = compilation.compile_lowered(
      ahead.lowered, recipe.compiler_options
    )
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return dataclasses.replace(known, largest=_largest(str(error)))
  bundles = kernels.read_schedules(schedules) if schedules else {}
  return _read(known, chip, compiled, bundles)


def _read(
  known: Forecast,
  chip: Chip,
  compiled: jax.stages.Compiled,
  bundles: Mapping[str, int],
) -> Forecast:
  program = hlo.parse(compiled.as_text())
  memory = compiled.memory_analysis()
  inside = kernels.count(program, bundles, chip.cores)
  cycles = hlo.estimated_cycles(program) + inside.cycles
  # No other compiler than that of TPUs tells any.
  seconds = cycles / chip.clock or math.nan
  return dataclasses.replace(
    known,
    fits=True,
    hbm={
      **known.hbm,
      "temporaries": memory.temp_size_in_bytes,
      # What is given and not donated has a second place for the result.
      "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
      "program": memory.generated_code_size_in_bytes,
    },
    collectives=hlo.collective_bytes(program),
    cycles=cycles,
    kernels=inside.runs,
    kernel_cycles=inside.cycles,
    uncounted_kernels=inside.uncounted,
    seconds=seconds,
    mfu=known.flops / seconds / chip.peak_flops,
  )


def _given(ahead: Ahead) -> dict[str, int]:
  """The bytes of a chip's share of what an update takes."""
  return {
    "parameters": _share(ahead.state.params),
    "optimizer state": _share(ahead.state.optimizer_state),
    "batch": _share(ahead.batch),
  }


def _share(tree: Any) -> int:
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def _largest(message: str) -> tuple[str, ...]:
  """What the compiler says of memory: how much is missing, and for what."""
  head = message.removeprefix("RESOURCE_EXHAUSTED: ").split("\n")[0]
  buffers = re.findall(
    r"^\s*\d+\. Size: (\S+)(?:.*?Operator: op_name=\"(.*?)\")?.*?"
    r"Shape: (\S+)",
    message,
    re.MULTILINE | re.DOTALL,
  )
  lines = (
    f"{size} {shape} {name}".strip() for size, name, shape in buffers[:_LARGEST]
  )
  return head, *lines


def print_report(found: Forecast) -> None:
  """Prints a forecast for people."""
  console = rich.console.Console()
  title = (
    f"{found.name}, on {found.topology}: {found.chips} chips,"
    f" {' x '.join(f'{n} {size}' for n, size in found.mesh.items())};"
    f" {found.rows:,} rows of {found.length}"
  )
  table = rich.table.Table("of one chip", "", title=title, title_justify="left")
  for name, size in found.hbm.items():
    table.add_row(f"HBM, {name}", _bytes(size))
  total = sum(found.hbm.values())
  used = f"{_bytes(total)} of {_bytes(found.hbm_capacity)}"
  if found.fits:
    share = total / found.hbm_capacity
    table.add_row("HBM, together", f"{used}, {share:.0%}: fits")
  else:
    table.add_row("HBM, together", "does not fit")
  table.add_row("FLOPs an update", f"{found.flops / 1e9:,.0f} G")
  for name, size in found.collectives.items():
    table.add_row(f"{name} an update", _bytes(size))
  if found.fits:
    table.add_row("estimated cycles", f"{found.cycles / 1e6:,.1f} M")
    if counted := found.kernels - found.uncounted_kernels:
      inside = f"{found.kernel_cycles / 1e6:,.1f} M"
      table.add_row(f"of them in {counted} kernels", inside)
    table.add_row("estimated step time", f"{found.seconds * 1e3:,.1f} ms")
    table.add_row("estimated MFU", f"{found.mfu:.0%}")
  console.print(table)
  if found.fits:
    console.print(
      "Estimates are the compiler's cost model at the chip's clock: no chip"
      " was used, and communication that does not overlap is not in them."
    )
    if found.uncounted_kernels:
      console.print(
        f"Nor are {found.uncounted_kernels} of {found.kernels} kernels: the"
        " update takes longer than this."
      )
  else:
    console.print("The compiler says:")
    for line in found.largest:
      console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _bytes(size: int) -> str:
  for unit in ("B", "KiB", "MiB"):
    if size < 1024:
      return f"{size:,.4g} {unit}"
    size /= 1024
  return f"{size:,.2f} GiB"
