"""Updates of BERT's pretraining, compiled for TPU slices in new processes."""

import json
import math
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.cases import PREDICTIONS
from bert_jax.aot.analysis import Analysis

MODELS = ("bert_base", "bert_large")
ROWS = {128: 32, 512: 8}
"""Rows of a chip, by their length."""

_ROOT = pathlib.Path(__file__).parents[1]


def in_kernels(cycles: int, uncounted: int) -> str:
  """Which cycles are in kernels, for a table; and what they have nothing of."""
  found = f"{cycles / 1e6:.1f} M"
  return f"{found}, and {uncounted} kernels more" if uncounted else found


def forecast(
  model: str, length: int, topology: str, flags: Sequence[str] = ()
) -> Analysis:
  """What the update takes, data parallel in bfloat16.

  Args:
    model: a preset.
    length: of rows, a key of `ROWS`.
    topology: as `v5e:4x4`.
    flags: further flags of `launch.compile`.
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
      + [f"--config.batch_size={ROWS[length] * chips}", *flags],
      cwd=_ROOT,
      stdout=subprocess.DEVNULL,
      check=False,
    )
    if ran.returncode not in (0, 1):  # 1 is the verdict that it does not fit.
      sys.exit(ran.returncode)
    entry = json.loads(path.read_text())
  return Analysis(
    **{name: math.nan if x is None else x for name, x in entry.items()}
  )
