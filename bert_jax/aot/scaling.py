"""Predicts the weak scaling of an update from one chip to a pod.

In weak scaling, the rows per chip are constant, and the cost of the all-reduce
of the gradients grows. A ring of N chips moves 2 (N - 1) / N of the bytes of
the gradients over the links of each chip (Patarasuk and Yuan 2009); on a torus,
all links of a chip take part. The compiler does not tell how much of this
overlaps with the backward pass, and its estimate of an update does not include
it. The prediction is the worst case, without overlap.
"""

import pathlib
from collections.abc import Sequence
from typing import BinaryIO

import matplotlib.figure
import numpy as np

from bert_jax.aot.analysis import Analysis
from bert_jax.aot.chips import CHIPS

_COUNTS = tuple(2**n for n in range(13))  # 1 to 4,096.


def seconds(analysis: Analysis, chips: int) -> float:
  """The predicted step time, in seconds."""
  chip = CHIPS[analysis.topology.partition(":")[0]]
  moved = 2 * (chips - 1) / chips * analysis.collectives.get("all-reduce", 0)
  return analysis.seconds + moved / chip.link_bytes


def draw(analyses: Sequence[Analysis], file: pathlib.Path | BinaryIO) -> None:
  """Writes a PNG: rows per second and weak-scaling efficiency by chips."""
  figure = matplotlib.figure.Figure(figsize=(12, 5.5), layout="constrained")
  speed, efficiency = figure.subplots(1, 2)
  for found in analyses:
    kind = found.topology.partition(":")[0]
    counts = np.array([n for n in _COUNTS if n <= CHIPS[kind].max_chips])
    times = np.array([seconds(found, n) for n in counts])
    rows = counts * found.rows / found.chips
    label = f"{found.name} on {kind}"
    speed.plot(counts, rows / times, label=label)
    efficiency.plot(counts, times[0] / times)
  speed.set(yscale="log", ylabel="rows per second")
  efficiency.set(ylim=(None, 1.01), ylabel="weak-scaling efficiency")
  for axes in (speed, efficiency):
    axes.set_xscale("log", base=2)
    axes.set_xlabel("chips of one slice")
    axes.grid(alpha=0.3, which="both")
  speed.legend(fontsize="small")
  figure.suptitle(
    "Predicted, not measured: weak scaling by the compiler's cost model,"
    " without overlap of communication and computation"
  )
  figure.savefig(file, dpi=100)
