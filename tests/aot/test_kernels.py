"""Cycles of kernels: the grid of a lowered kernel, schedules as text."""

import base64
import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from bert_jax.aot import hlo, kernels

CALL = """%{name} = f32[8]{{0}} custom-call(%p), \
custom_call_target="tpu_custom_call", metadata={{op_name="pallas_call"}}, \
backend_config={{"custom_call_config":{{"body":"{kernel}","x":1}}}}"""
PROGRAM = """\
%body (p: f32[8]) -> f32[8] {{
  ROOT {inner}
}}

ENTRY %main (p: f32[8]) -> f32[8] {{
  %p = f32[8]{{0}} parameter(0)
  {outer}
  ROOT %loop = f32[8] while(%p), condition=%unknown, body=%body, \
backend_config={{"known_trip_count":{{"n":"3"}}}}
}}
"""
SCHEDULE = """\
Schedule analysis:
	total scheduled bundles:    1591
	empty scheduled bundles:    8
	1583.00 scheduled bundles (100.00%): {call}
"""


def made(grid, along="arbitrary"):
  """The MLIR module of a Pallas kernel for TPUs."""

  def double(x, y):
    y[...] = 2 * x[...]

  block = pl.BlockSpec((8, 128), lambda row, lane: (row, lane))
  shape = jax.ShapeDtypeStruct((8 * grid[0], 128 * grid[1]), jnp.float32)
  call = pl.pallas_call(
    double,
    grid=grid,
    in_specs=[block],
    out_specs=block,
    out_shape=shape,
    compiler_params=pltpu.CompilerParams(dimension_semantics=(along,) * 2),
  )
  lowered = jax.jit(call).trace(shape).lower(lowering_platforms=("tpu",))
  text = lowered.as_text().replace("\\22", '"')
  return re.search(r'"body": ?"([^"]+)"', text)[1]


@pytest.fixture(scope="module")
def kernel():
  return made((4, 6))


def program(inner, outer):
  text = PROGRAM.format(
    inner=CALL.format(name="inner", kernel=inner),
    outer=CALL.format(name="outer", kernel=outer),
  )
  return hlo.parse(text)


def test_grid_steps(kernel):
  assert kernels.grid_steps(kernel) == 24
  assert kernels.grid_steps(base64.b64encode(b"no module").decode()) is None


def test_cores_share_the_steps_of_parallel_grids(kernel):
  assert kernels.grid_steps(kernel, cores=2) == 24
  assert kernels.grid_steps(made((5, 3), "parallel"), cores=2) == 8
  assert kernels.grid_steps(made((5, 3), "parallel")) == 15


def test_cycles_are_bundles_times_steps_times_runs(kernel, tmp_path):
  label = "final_bundles.txt"
  call = CALL.format(name="outer", kernel=kernel)
  (tmp_path / f"1-outer-00-schedule-analysis_{label}").write_text(
    SCHEDULE.format(call=call)
  )
  (tmp_path / f"2-copy-00-schedule-analysis_{label}").write_text(
    SCHEDULE.format(call="%copy = f32[8]{0} copy(%p)")
  )
  (tmp_path / f"3-TLP-00-schedule-analysis_{label}").write_text(
    SCHEDULE.format(call=call).replace("1591", "546")
  )
  schedules = kernels.read_schedules(tmp_path)
  assert schedules == {kernel: 1591}
  found = kernels.count(program(kernel, kernel), schedules)
  assert found == kernels.Kernels(runs=4, uncounted=0, cycles=4 * 24 * 1591)


def test_kernels_without_a_schedule_are_uncounted(kernel):
  both = program("b3RoZXI=", kernel)
  assert kernels.count(both, {}) == kernels.Kernels(4, 4, 0)
  found = kernels.count(both, {kernel: 10, "b3RoZXI=": 10})
  assert found == kernels.Kernels(runs=4, uncounted=3, cycles=240)


def test_a_program_without_kernels_has_none():
  assert kernels.count(hlo.parse(""), {}) == kernels.Kernels(0, 0, 0)


def test_compiler_options_are_appended(monkeypatch):
  monkeypatch.setenv("LIBTPU_INIT_ARGS", "--xla_tpu_something=1")
  kernels.write_schedules("/somewhere")
  told = kernels.os.environ["LIBTPU_INIT_ARGS"].split()
  assert told[:2] == ["--xla_tpu_something=1", "--xla_jf_dump_to=/somewhere"]
