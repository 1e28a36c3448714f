"""How an update would scale from one chip to a pod: a prediction.

Weak scaling: every chip has as many rows, however many there are. What grows
is the sum of gradients over all of them. A ring of N chips moves 2 (N - 1) / N
of the gradients' bytes over each chip's links (Patarasuk and Yuan 2009); on a
torus all links of a chip take part. How much of that hides behind the backward
pass no compiler tells. Here nothing does, and the compiler's estimate of an
update counts none of it, which is the worst case.
"""

import pathlib
from collections.abc import Sequence
from typing import BinaryIO

import matplotlib.figure
import numpy as np

from bert_jax.aot.chips import CHIPS
from bert_jax.aot.forecast import Forecast

_COUNTS = tuple(2**n for n in range(13))  # 1 to 4,096.


def seconds(found: Forecast, chips: int) -> float:
  """The predicted step time on so many chips, in seconds.

  Args:
    found: a forecast that fits, of data parallelism.
    chips: how many.
  """
  chip = CHIPS[found.topology.partition(":")[0]]
  moved = 2 * (chips - 1) / chips * found.collectives.get("all-reduce", 0)
  return found.seconds + moved / chip.link_bytes


def draw(forecasts: Sequence[Forecast], file: pathlib.Path | BinaryIO) -> None:
  """Writes a PNG: rows a second, and weak-scaling efficiency, over chips."""
  figure = matplotlib.figure.Figure(figsize=(12, 5.5), layout="constrained")
  speed, efficiency = figure.subplots(1, 2)
  for found in forecasts:
    kind = found.topology.partition(":")[0]
    counts = np.array([n for n in _COUNTS if n <= CHIPS[kind].most])
    times = np.array([seconds(found, n) for n in counts])
    rows = counts * found.rows / found.chips
    label = f"{found.name} on {kind}"
    speed.plot(counts, rows / times, label=label)
    efficiency.plot(counts, times[0] / times)
  speed.set(yscale="log", ylabel="rows a second")
  efficiency.set(ylim=(None, 1.01), ylabel="weak-scaling efficiency")
  for axes in (speed, efficiency):
    axes.set_xscale("log", base=2)
    axes.set_xlabel("chips of one slice")
    axes.grid(alpha=0.3, which="both")
  speed.legend(fontsize="small")
  figure.suptitle(
    "Predicted, not measured: weak scaling by the compiler's cost model, if no"
    " communication hides behind computation"
  )
  figure.savefig(file, dpi=100)
