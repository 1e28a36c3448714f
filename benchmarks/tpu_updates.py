"""AOT analysis of BERT pretraining on TPU slices, in new processes."""

import json
import math
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from benchmarks import runner
from benchmarks.cases import PREDICTIONS
from bert_jax.aot.analysis import Analysis

MODELS = ("bert_base", "bert_large")
ROWS = {128: 32, 512: 8}
"""The rows per chip, by their length."""


def in_kernels(cycles: int, uncounted: int) -> str:
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
      + [f"--config.batch_size={ROWS[length] * chips}", *flags],
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
