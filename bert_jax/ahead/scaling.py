"""How an update would scale from one chip to a pod: a prediction.

Weak scaling: every chip has as many rows, however many there are. What grows
is the sum of gradients over all of them. A ring of N chips moves 2 (N - 1) / N
of the gradients' bytes over each chip's links (Patarasuk and Yuan 2009); on a
torus all links of a chip take part. How much of that hides behind the backward
pass no compiler tells, so there are two curves: all of it, and nothing.
"""

import pathlib
from collections.abc import Sequence

import matplotlib.figure

from bert_jax.ahead.chips import CHIPS
from bert_jax.ahead.forecast import Forecast

_COUNTS = tuple(2**n for n in range(13))  # 1 to 4,096.


def seconds(found: Forecast, chips: int) -> tuple[float, float]:
  """The predicted step time on so many chips, in seconds.

  Args:
    found: a forecast that fits, of data parallelism.
    chips: how many.

  Returns:
    With communication that hides behind computation, and with none that does.
  """
  chip = CHIPS[found.topology.partition(":")[0]]
  moved = 2 * (chips - 1) / chips * found.collectives.get("all-reduce", 0)
  summing = moved / chip.link_bytes
  return max(found.seconds, summing), found.seconds + summing


def draw(forecasts: Sequence[Forecast], path: pathlib.Path) -> None:
  """Writes a PNG: rows a second over chips, beside what would be ideal."""
  figure = matplotlib.figure.Figure(figsize=(9, 6), layout="constrained")
  axes = figure.add_subplot()
  for number, found in enumerate(forecasts):
    chip = CHIPS[found.topology.partition(":")[0]]
    counts = [count for count in _COUNTS if count <= chip.most]
    rows = found.rows / found.chips
    times = [seconds(found, count) for count in counts]
    best, worst = (
      [count * rows / time[i] for count, time in zip(counts, times)]
      for i in (0, 1)
    )
    color = f"C{number}"
    label = f"{found.name} on {found.topology.partition(':')[0]}"
    axes.plot(counts, best, color=color, label=label)
    axes.fill_between(counts, worst, best, color=color, alpha=0.2)
    ideal = [count * best[0] for count in counts]
    axes.plot(counts, ideal, color=color, linestyle=":", linewidth=1)
  axes.set_xscale("log", base=2)
  axes.set_yscale("log")
  axes.set_xlabel("chips of one slice")
  axes.set_ylabel("rows a second")
  axes.set_title(
    "Predicted, not measured: weak scaling by the compiler's cost model\n"
    "(band: communication that hides, or does not; dotted: ideal)"
  )
  axes.grid(alpha=0.3, which="both")
  axes.legend(fontsize="small")
  figure.savefig(path, dpi=100)
