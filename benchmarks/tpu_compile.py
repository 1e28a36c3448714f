"""What updates take of TPU slices, by the TPU's own compiler.

  pip install -e '.[tpu]'
  python -m benchmarks.tpu_compile [--topology v5e:4x4 v5e:16x16 v5p:8x8x8]

Compiles the updates of BERT-base and BERT-large, at length 128 with 32 rows a
chip and at 512 with 8, data parallel in bfloat16, each in a process of its own.
No TPU is used: the figures of memory are the compiler's, those of time its cost
model's at the chip's clock. The compiler is deterministic: the same versions
give the same figures. Writes benchmarks/results/tpu_compile.json and, of the
last topology, tpu_compile.png: predicted weak scaling.
"""

import argparse
import importlib.metadata
import json
import math
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import rich
from rich.table import Table

from bert_jax.ahead import scaling
from bert_jax.ahead.forecast import Forecast

_ROOT = pathlib.Path(__file__).parents[1]
_RESULTS = _ROOT / "benchmarks" / "results"
_MODELS = ("bert_base", "bert_large")
_ROWS = {128: 32, 512: 8}
_PREDICTIONS = {128: 20, 512: 76}


def forecast(model: str, length: int, topology: str) -> Forecast:
  shape = topology.partition(":")[2]
  chips = math.prod(int(n) for n in shape.split("x"))
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "found.json"
    subprocess.run(
      [sys.executable, "-m", "launch.compile", f"--topology={topology}"]
      + [f"--json={path}", "--config=configs/pretrain/bert_base.py"]
      + [f"--config.model.preset={model}", f"--config.data.length={length}"]
      + [f"--config.data.max_predictions={_PREDICTIONS[length]}"]
      + [f"--config.batch_size={_ROWS[length] * chips}"],
      cwd=_ROOT,
      stdout=subprocess.DEVNULL,
      check=False,  # 1 is the verdict that it does not fit.
    )
    return _read(json.loads(path.read_text()))


def _read(entry: Mapping[str, Any]) -> Forecast:
  return Forecast(
    **{name: math.nan if x is None else x for name, x in entry.items()}
  )


def _row(found: Forecast) -> list[str]:
  row = [found.topology, found.name, f"{found.rows // found.chips}"]
  if not found.fits:
    return [*row, "does not fit"]
  memory = sum(found.hbm.values())
  return [
    *row,
    f"{memory / 2**30:.2f} GiB, {memory / found.hbm_capacity:.0%}",
    f"{found.collectives.get('all-reduce', 0) / 2**20:,.0f} MiB",
    f"{found.cycles / 1e6:.1f} M",
    f"{found.seconds * 1e3:.1f} ms",
    f"{found.mfu:.0%}",
  ]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument(
    "--topology", nargs="+", default=["v5e:4x4", "v5e:16x16", "v5p:8x8x8"]
  )
  arguments = parser.parse_args()
  versions = ", ".join(
    f"{name} {importlib.metadata.version(name)}" for name in ("jax", "libtpu")
  )
  table = Table(
    "slice", "update", "rows a chip", "HBM of a chip", "all-reduce",
    "estimated cycles", "estimated step", "estimated MFU", title=versions,
  )  # fmt: skip
  found = []
  _RESULTS.mkdir(exist_ok=True)
  for topology in arguments.topology:
    for model in _MODELS:
      for length in _ROWS:
        found.append(forecast(model, length, topology))
        table.add_row(*_row(found[-1]))
        # As it goes: each takes minutes.
        text = json.dumps([one.to_dict() for one in found], indent=2) + "\n"
        (_RESULTS / "tpu_compile.json").write_text(text)
  rich.print(table)
  last = [
    one for one in found if one.topology == arguments.topology[-1] and one.fits
  ]
  scaling.draw(last, _RESULTS / "tpu_compile.png")


if __name__ == "__main__":
  main()
