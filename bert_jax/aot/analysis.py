"""Ahead-of-time (AOT) analysis of an update: memory, time, communication."""

import dataclasses
import math
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import rich.console
import rich.table

from bert_jax.aot import chips, hlo, kernels
from bert_jax.aot.chips import Chip
from bert_jax.models import flops
from bert_jax.models.config import encoder_config
from bert_jax.settings import UserError
from bert_jax.tasks import pretraining
from bert_jax.tasks.pretraining import CorpusDataConfig
from bert_jax.tasks.task import Task
from bert_jax.training import compilation, run
from bert_jax.training.mesh import meshes, partitioning
from bert_jax.training.recipe import Recipe
from bert_jax.training.train import make_update
from bert_jax.types import Batch, TrainState

# The number of buffers to list if an update does not fit.
_MAX_LISTED = 8


@dataclasses.dataclass(frozen=True)
class Analysis:
  """The figures of an update; memory, FLOPs and communication of one chip.

  Attributes:
    name: the encoder and the length of its rows.
    topology: the slice, such as `v5e:4x4`.
    chips: the number of its chips.
    mesh: the sizes of the axes of the mesh.
    rows: the rows of an update, over all chips.
    length: the positions of a row.
    fits: whether the update fits into the memory of a chip.
    hbm_capacity: the memory of a chip, in bytes.
    hbm: the bytes by kind; only those of the arguments if the update does not
      fit.
    largest: if the update does not fit, the compiler's message and the largest
      buffers.
    flops: the FLOPs that the mathematics of the update requires.
    collectives: the bytes of each kind of collective.
    cycles: by the cost model of the compiler, without overlap, and inside of
      kernels by its schedule; 0 if the update does not fit.
    integer_products: the number of matrix products of integers in an update;
      see `config.model.dense_dtype`.
    kernels: the number of Pallas kernels that an update runs.
    kernel_cycles: the part of `cycles` inside of kernels.
    uncounted_kernels: the number of kernels that `cycles` does not include.
    seconds: the estimated step time: the cycles at the clock rate of the chip.
    mfu: the estimated model FLOPs utilization in that time.
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
  integer_products: int = 0
  kernels: int = 0
  kernel_cycles: int = 0
  uncounted_kernels: int = 0
  seconds: float = math.nan
  mfu: float = math.nan

  def to_dict(self) -> dict[str, Any]:
    """The fields for JSON, where NaN is null."""
    return {
      name: None if isinstance(x, float) and math.isnan(x) else x
      for name, x in dataclasses.asdict(self).items()
    }


class LoweredUpdate(NamedTuple):
  """A lowered update; state and batch are shape structs with shardings."""

  task: Task
  data: CorpusDataConfig
  mesh: jax.sharding.Mesh
  state: TrainState
  batch: Batch
  lowered: jax.stages.Lowered


def lower(recipe: Recipe, devices: Sequence[jax.Device]) -> LoweredUpdate:
  """Lowers the update of `training.train` for some devices.

  Reads no data: the size of the vocabulary is that of the recipe.

  Raises:
    UserError: the recipe lacks a value, or does not fit the devices.
  """
  if recipe.corpus is None or recipe.init:
    raise UserError(
      "--config: expected a recipe of pretraining from scratch, with a section"
      " corpus"
    )
  if not recipe.steps:
    raise UserError("config.steps: missing; epochs need the data to be counted")
  model = {"vocab_size": recipe.corpus.vocab_size, **recipe.model}
  data = recipe.data_config()
  task = data.TASK.bind(encoder_config(model), None)
  layout = partitioning.make_layout(recipe.mesh, devices)
  mesh = layout.mesh
  meshes.check_rows(recipe.batch_size, recipe.accumulation, mesh)
  optimizer, frozen = run.make_optimizer(recipe, task)
  state = partitioning.state_shapes(
    lambda: run.initial_state(recipe, task, optimizer), layout
  )
  batch = meshes.batch_shapes(
    pretraining.dummy_batch(data), mesh, recipe.batch_size
  )
  function = make_update(task, optimizer, recipe.accumulation, frozen)
  update = compilation.CompiledUpdate(function, mesh, recipe.batch_size)
  return LoweredUpdate(
    task, data, mesh, state, batch, update.lower(state, batch)
  )


def analyze(
  recipe: Recipe, topology: str, schedules: pathlib.Path | str | None = None
) -> Analysis:
  """Compiles the update of a recipe for a slice, and analyzes the program.

  Args:
    recipe: a recipe of pretraining, with its number of steps.
    topology: the slice, such as `v5e:4x4`.
    schedules: the folder given to `kernels.write_schedules`; None does not
      count the cycles inside of kernels.

  Raises:
    UserError: there is no such slice, or the recipe does not fit its devices.
  """
  chip, devices = chips.topology(topology)
  task, data, mesh, state, batch, lowered = lower(recipe, devices)
  rows, length = batch.token_ids.shape
  per_token = flops.training_flops_per_token(
    task.config, length, data.predictions
  )
  analysis = Analysis(
    name=f"{recipe.model.get('preset', 'encoder')}, length {length}",
    topology=topology,
    chips=len(devices),
    mesh=dict(mesh.shape),
    rows=rows,
    length=length,
    fits=False,
    hbm_capacity=chip.hbm_bytes,
    hbm={
      "parameters": _shard_bytes(state.params),
      "optimizer state": _shard_bytes(state.optimizer_state),
      "batch": _shard_bytes(batch),
    },
    largest=(),
    flops=rows * length * per_token / len(devices),
    collectives={},
  )
  try:
    compiled = compilation.compile_lowered(lowered, recipe.compiler_options)
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return dataclasses.replace(analysis, largest=_largest(str(error)))
  bundles = kernels.read_schedules(schedules) if schedules else {}
  return _read(analysis, chip, compiled, bundles)


def _read(
  analysis: Analysis,
  chip: Chip,
  compiled: jax.stages.Compiled,
  bundles: Mapping[str, int],
) -> Analysis:
  program = hlo.parse(compiled.as_text())
  memory = compiled.memory_analysis()
  inside = kernels.count(program, bundles, chip.cores)
  cycles = hlo.estimated_cycles(program) + inside.cycles
  # Only the TPU compiler has estimates.
  seconds = cycles / chip.clock or math.nan
  return dataclasses.replace(
    analysis,
    fits=True,
    hbm={
      **analysis.hbm,
      "temporaries": memory.temp_size_in_bytes,
      # Arguments that are not donated have a separate buffer for the result.
      "results": memory.output_size_in_bytes - memory.alias_size_in_bytes,
      "program": memory.generated_code_size_in_bytes,
    },
    collectives=hlo.collective_bytes(program),
    cycles=cycles,
    integer_products=hlo.integer_products(program),
    kernels=inside.runs,
    kernel_cycles=inside.cycles,
    uncounted_kernels=inside.uncounted,
    seconds=seconds,
    mfu=analysis.flops / seconds / chip.peak_flops,
  )


def _shard_bytes(tree: Any) -> int:
  return sum(
    math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in jax.tree.leaves(tree)
  )


def _largest(message: str) -> tuple[str, ...]:
  """The compiler's message about memory, and the largest buffers."""
  head = message.removeprefix("RESOURCE_EXHAUSTED: ").split("\n")[0]
  buffers = re.findall(
    r"^\s*\d+\. Size: (\S+)(?:.*?Operator: op_name=\"(.*?)\")?.*?"
    r"Shape: (\S+)",
    message,
    re.MULTILINE | re.DOTALL,
  )
  lines = (
    f"{size} {shape} {name}".strip()
    for size, name, shape in buffers[:_MAX_LISTED]
  )
  return head, *lines


def print_report(analysis: Analysis) -> None:
  """Prints an analysis as a table."""
  console = rich.console.Console()
  title = (
    f"{analysis.name}, on {analysis.topology}: {analysis.chips} chips,"
    f" {' x '.join(f'{n} {size}' for n, size in analysis.mesh.items())};"
    f" {analysis.rows:,} rows of {analysis.length}"
  )
  table = rich.table.Table("per chip", "", title=title, title_justify="left")
  for name, size in analysis.hbm.items():
    table.add_row(f"HBM, {name}", _bytes(size))
  total = sum(analysis.hbm.values())
  used = f"{_bytes(total)} of {_bytes(analysis.hbm_capacity)}"
  if analysis.fits:
    share = total / analysis.hbm_capacity
    table.add_row("HBM, total", f"{used}, {share:.0%}: fits")
  else:
    table.add_row("HBM, total", "does not fit")
  table.add_row("FLOPs per update", f"{analysis.flops / 1e9:,.0f} G")
  for name, size in analysis.collectives.items():
    table.add_row(f"{name} per update", _bytes(size))
  if analysis.fits:
    table.add_row("estimated cycles", f"{analysis.cycles / 1e6:,.1f} M")
    if analysis.integer_products:
      table.add_row("products of integers", f"{analysis.integer_products:,}")
    if counted := analysis.kernels - analysis.uncounted_kernels:
      inside = f"{analysis.kernel_cycles / 1e6:,.1f} M"
      table.add_row(f"of them in {counted} kernels", inside)
    table.add_row("estimated step time", f"{analysis.seconds * 1e3:,.1f} ms")
    table.add_row("estimated MFU", f"{analysis.mfu:.0%}")
  console.print(table)
  if analysis.fits:
    console.print(
      "Estimates are those of the compiler's cost model at the clock rate of"
      " the chip. No chip was used. They do not include communication that does"
      " not overlap with computation."
    )
    if analysis.uncounted_kernels:
      console.print(
        f"They do not include {analysis.uncounted_kernels} of"
        f" {analysis.kernels} kernels either, so the update takes longer."
      )
  else:
    console.print("Message of the compiler:")
    for line in analysis.largest:
      console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)


def _bytes(size: int) -> str:
  for unit in ("B", "KiB", "MiB"):
    if size < 1024:
      return f"{size:,.4g} {unit}"
    size /= 1024
  return f"{size:,.2f} GiB"
