"""AOT analysis, with CPU devices in place of those of a slice."""

import dataclasses
import json
import math
import re

import jax
import pytest

from bert_jax.aot import analysis, chips
from bert_jax.aot.analysis import print_report
from bert_jax.models import flops
from bert_jax.training.recipe import Recipe
from tests.errors import user_error
from tests.tasks import learnable

CONFIG = {
  "steps": 10,
  "batch_size": 4,
  "corpus": {"source": "text_files", "vocab_size": 64},
  "model": {**learnable.MODEL, "max_positions": 16},
  "data": {"corpus": "not there", "max_length": 16, "max_predictions": 3},
}
CHIP = chips.CHIPS["v5e"]


@pytest.fixture(scope="module")
def on_cpu():
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(chips, "topology", lambda name: (CHIP, jax.devices()[:1]))
    return analysis.analyze(Recipe.from_dict(CONFIG), "v5e:1x1")


def test_analysis_of_memory_and_flops(on_cpu, capsys):
  assert on_cpu.fits
  assert on_cpu.mesh == {"data": 1, "fsdp": 1, "model": 1}
  assert (on_cpu.chips, on_cpu.rows, on_cpu.length) == (1, 4, 16)
  hbm = on_cpu.hbm
  # Four arrays of int32 by token, three by prediction and two by pair.
  assert hbm["batch"] == 4 * (4 * 16 + 3 * 3 + 2) * 4
  assert 2 * hbm["parameters"] <= hbm["optimizer state"]
  assert hbm["optimizer state"] <= 2 * hbm["parameters"] + 64
  config = analysis.lower(Recipe.from_dict(CONFIG), jax.devices()[:1]).task
  per_token = flops.training_flops_per_token(config.config, 16, 3)
  assert on_cpu.flops == 4 * 16 * per_token
  print_report(on_cpu)
  printed = capsys.readouterr().out
  assert "HBM, optimizer state" in printed and "fits" in printed
  assert json.loads(json.dumps(on_cpu.to_dict()))["topology"] == "v5e:1x1"


def test_the_report_lists_kernels_separately(on_cpu, capsys):
  print_report(on_cpu)
  assert "kernels" not in capsys.readouterr().out
  some = dataclasses.replace(
    on_cpu, kernels=24, kernel_cycles=6_700_000, uncounted_kernels=4
  )
  print_report(some)
  printed = capsys.readouterr().out
  assert re.search(r"of them in 20 kernels\W+6.7 M", printed)
  assert "not include 4 of 24 kernels" in printed


def test_an_update_that_does_not_fit(on_cpu, capsys):
  message = (
    "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in"
    " memory space hbm. Used 20.5G of 15.75G hbm.\n\n"
    "Largest program allocations in hbm:\n\n"
    '  1. Size: 2.25G\n     Operator: op_name="jit(step)/dot_general"\n'
    "     Shape: f32[64,512]{1,0:T(8,128)}\n     Unpadded size: 2.25G\n"
    "  2. Size: 1.00G\n     Shape: bf16[8]{0}\n"
  )
  found = analysis._largest(message)
  assert "Used 20.5G of 15.75G hbm." in found[0]
  assert found[1:] == (
    "2.25G f32[64,512]{1,0:T(8,128)} jit(step)/dot_general",
    "1.00G bf16[8]{0}",
  )
  over = dataclasses.replace(
    on_cpu, fits=False, largest=found, seconds=math.nan, mfu=math.nan
  )
  print_report(over)
  printed = capsys.readouterr().out
  assert "does not fit" in printed and "Used 20.5G" in printed
  assert over.to_dict()["mfu"] is None


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"corpus": None}, "--config: expected a recipe of pretraining"),
    ({"init": "somewhere", "model": {}}, "--config: expected a recipe"),
    ({"steps": 0, "epochs": 1.0}, "config.steps: missing"),
    ({"mesh": {"data": 3}}, "config.mesh: data 3"),
    ({"accumulation": 4, "mesh": {"data": 2}}, "config.mesh: data 2"),
  ],
)
def test_incomplete_recipes(changes, message):
  with user_error(message):
    analysis.lower(Recipe.from_dict(CONFIG | changes), jax.devices()[:1])


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("v5e", "--topology v5e: expected CHIP:SHAPE"),
    ("v5e:", "expected CHIP:SHAPE"),
    ("v9:2x2", "--topology: unknown 'v9'"),
  ],
)
def test_unknown_slices(name, message):
  with user_error(message):
    chips.topology(name)
