"""What smaller models of a model cost: size, latency and quality."""

import dataclasses
import html
import io
import itertools
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import matplotlib.axes
import matplotlib.figure

from bert_jax import trees
from bert_jax.data.sources.labelled import Record
from bert_jax.evaluation import page
from bert_jax.evaluation.evaluate import Evaluation
from bert_jax.model import Model
from bert_jax.models import low_rank
from bert_jax.storage import folders, paths
from bert_jax.training.metrics import is_better

RESULTS_FILE = "tradeoff.json"
PICTURE_FILE = "tradeoff.png"
PAGE_FILE = "tradeoff.html"
FULL = "full model"
"""The method of the point that all others are compared with."""

# Texts whose latency is measured, and how often the two models take turns.
_TEXTS, _ROUNDS = 24, 5
# What a point may be worse, of the full model's quality, to be advised.
_NEAR = 0.01


@dataclasses.dataclass(frozen=True)
class Point:
  """A model on the curve.

  Attributes:
    name: of the point.
    method: how it was made; points of one method are connected.
    commands: what makes it from the full model.
    parameters: their number.
    bytes: of the parameters as they are stored.
    milliseconds: the median over single texts, from text to answer.
    speedup: how many times faster than the full model single texts are, the
      median over rounds in which the two take turns.
    layers: of rows that leave early, the mean number of layers; else all.
    metrics: of the labelled records.
  """

  name: str
  method: str
  commands: tuple[str, ...]
  parameters: int
  bytes: int
  milliseconds: float
  speedup: float
  layers: float
  metrics: Mapping[str, float]


class Cost(NamedTuple):
  """The attributes of a `Point` that are measured."""

  parameters: int
  bytes: int
  milliseconds: float
  speedup: float
  layers: float


def cost(model: Model, full: Model, records: Sequence[Record]) -> Cost:
  """Measures a model's size and latency.

  Args:
    model: the smaller model.
    full: what it is compared with.
    records: for both; some of them are used, evenly spaced.
  """
  step = max(len(records) // _TEXTS, 1)
  chosen = records[::step][:_TEXTS]
  for record in chosen:  # Compiles.
    full(record)
    model(record)
  left = getattr(model.forward, "left", None)
  before = None if left is None else left.copy()
  own, other = [], []
  for _ in range(_ROUNDS):
    other.append([_seconds(full, record) for record in chosen])
    own.append([_seconds(model, record) for record in chosen])
  ratios = [sum(a) / sum(b) for a, b in zip(other, own)]
  layers = float(model.config.num_layers)
  if left is not None:
    taken = left - before
    layers = float((taken * range(1, len(taken) + 1)).sum() / taken.sum())
  shapes = jax.eval_shape(low_rank.merged, model.params)
  return Cost(
    trees.count(shapes),
    _bytes(model),
    1000 * statistics.median(itertools.chain.from_iterable(own)),
    statistics.median(ratios),
    layers,
  )


def _bytes(model: Model) -> int:
  return sum(x.nbytes for x in jax.tree.leaves(model.params))


def _seconds(model: Model, record: Record) -> float:
  started = time.perf_counter()
  model(record)
  return time.perf_counter() - started


def point(
  name: str,
  method: str,
  commands: Sequence[str],
  model: Model,
  full: Model,
  evaluation: Evaluation,
  bits: int = 0,
) -> Point:
  """A point of the curve; measures its cost.

  Args:
    name: see `Point`.
    method: see `Point`.
    commands: see `Point`.
    model: the smaller model, in float32.
    full: what it is compared with.
    evaluation: of the smaller model.
    bits: of kernels and embeddings as they are stored; 0 for float32.
  """
  found = cost(model, full, evaluation.records)
  if bits:
    size = _bytes(model.in_bits(bits))
    found = found._replace(bytes=size)
  return Point(name, method, tuple(commands), *found, dict(evaluation.metrics))


@dataclasses.dataclass(frozen=True)
class Curve:
  """Points, of which the first is the full model.

  Attributes:
    model: the name of the full model.
    data: the labelled records.
    metric: the one that quality is measured by.
    points: at least the full model.
    failed: why other points could not be made, by their names.
  """

  model: str
  data: str
  metric: str
  points: Sequence[Point]
  failed: Mapping[str, str]

  def quality(self, point: Point) -> float:
    """The metric of a point."""
    return point.metrics[self.metric]

  def best(self, by: Callable[[Point], float]) -> list[Point]:
    """The points that no cheaper one is as good as, the cheapest first.

    Args:
      by: the cost of a point.
    """
    found: list[Point] = []
    for point in sorted(self.points, key=by):
      if not found or is_better(
        self.metric, self.quality(point), self.quality(found[-1])
      ):
        found.append(point)
    return found

  def advice(self) -> dict[str, str]:
    """The cheapest points that are nearly as good as the full model."""
    full, *_ = self.points
    quality = self.quality(full)
    near = [
      x
      for x in self.points
      if is_better(self.metric, self.quality(x), quality)
      or abs(self.quality(x) - quality) <= _NEAR * abs(quality)
    ]
    small = min(near, key=lambda x: x.bytes)
    fast = max(near, key=lambda x: x.speedup)
    within = f"within {_NEAR:.0%} of the full model"
    return {
      f"smallest {within}": (
        f"{small.name}, {small.bytes / full.bytes:.0%} of the bytes"
      ),
      f"fastest {within}": f"{fast.name}, {fast.speedup:.2f}x",
    }


def write(curve: Curve, folder: paths.Path) -> list[Any]:
  """Writes the curve as JSON, a picture and a page.

  Args:
    curve: the points.
    folder: is created if necessary; earlier files are replaced.

  Returns:
    The paths of the three files.
  """
  png = draw(curve)
  contents = {
    "model": curve.model,
    "data": curve.data,
    "metric": curve.metric,
    "points": [dataclasses.asdict(point) for point in curve.points],
    "failed": dict(curve.failed),
  }
  with paths.staged_folder(folder) as here:
    here.mkdir(parents=True, exist_ok=True)
    (here / PICTURE_FILE).write_bytes(png)
    folders.write_text(here / PAGE_FILE, render(curve, png))
    text = json.dumps(contents, indent=2) + "\n"
    folders.write_text(here / RESULTS_FILE, text)
  files = (RESULTS_FILE, PICTURE_FILE, PAGE_FILE)
  return [paths.as_path(folder) / name for name in files]


_AXES: Mapping[str, Callable[[Point], float]] = {
  "size of the parameters, MB": lambda x: x.bytes / 1e6,
  "latency of a text, relative to the full model": lambda x: 1 / x.speedup,
}


def draw(curve: Curve) -> bytes:
  """A PNG: quality by size, and by latency."""
  figure = matplotlib.figure.Figure(figsize=(13, 5.5), layout="constrained")
  for number, (label, by) in enumerate(_AXES.items(), 1):
    axes = figure.add_subplot(1, 2, number)
    _plot(axes, curve, by)
    axes.set_xlabel(label)
    axes.set_ylabel(curve.metric)
  handles, labels = axes.get_legend_handles_labels()
  figure.legend(handles, labels, loc="outside lower center", ncols=5)
  file = io.BytesIO()
  figure.savefig(file, format="png", dpi=110)
  return file.getvalue()


def _plot(
  axes: matplotlib.axes.Axes, curve: Curve, by: Callable[[Point], float]
) -> None:
  full, *_ = curve.points
  groups: dict[str, list[Point]] = {}
  for point in curve.points:
    groups.setdefault(point.method, []).append(point)
  for number, (method, points) in enumerate(groups.items()):
    # From the full model on, to which the method is applied.
    own = points if method == FULL else [full, *points]
    own = sorted(own, key=by)
    colour = "black" if method == FULL else f"C{(number - 1) % 10}"
    axes.plot(
      [by(x) for x in own],
      [curve.quality(x) for x in own],
      marker="o" if method != FULL else "*",
      markersize=6 if method != FULL else 13,
      color=colour,
      label=method,
      alpha=0.85,
      zorder=3 if method == FULL else 2,
    )
  best = curve.best(by)
  axes.plot(
    [by(x) for x in best],
    [curve.quality(x) for x in best],
    color="gray",
    linestyle=":",
    linewidth=5,
    alpha=0.35,
    label="best",
    zorder=1,
  )
  greatest = max(map(by, curve.points))
  for point in best:
    # Those on the right are named to the left.
    right = by(point) > 0.8 * greatest
    axes.annotate(
      point.name,
      (by(point), curve.quality(point)),
      horizontalalignment="right" if right else "left",
      xytext=(-5 if right else 5, -11),
      textcoords="offset points",
      fontsize=8,
    )
  axes.axhline(curve.quality(full), color="gray", linewidth=0.7)
  axes.set_xlim(left=0)
  axes.grid(alpha=0.3)


def render(curve: Curve, png: bytes) -> str:
  """The page."""
  others = curve.points[1:]
  by_size = {x.name for x in curve.best(lambda x: x.bytes)}
  by_time = {x.name for x in curve.best(lambda x: 1 / x.speedup)}
  rows = [(x.name, _row(curve, x, by_size, by_time)) for x in curve.points]
  parts = [
    f"<h1>{page.text(f'Size, latency and quality of {curve.model}')}</h1>",
    *page.lines({"data": curve.data, "metric": curve.metric, **curve.advice()}),
    page.image(png, f"{curve.metric} by size and by latency"),
    '<p class="note">The dotted line joins the points that no other beats.'
    " Lines of a method begin at the full model. Size is that of the parameters"
    " as they are stored. Latency is of single texts, from text to answer;"
    " the speedup is measured in turn with the full model, and the milliseconds"
    " are those of the moment.</p>",
    "<h2>Points</h2>",
    page.table(rows, "point"),
  ]
  if curve.failed:
    failed = [(name, {"reason": why}) for name, why in curve.failed.items()]
    parts += ["<h2>Not made</h2>", page.table(failed, "point")]
  lines = "\n".join(
    html.escape(line)
    for point in others
    for line in (f"# {point.name}", *point.commands)
  )
  parts += ["<h2>Commands</h2>", f'<pre class="wide">{lines}</pre>']
  return page.document(f"{curve.model}: size, latency and quality", parts)


def _row(
  curve: Curve, point: Point, by_size: set[str], by_time: set[str]
) -> dict[str, Any]:
  full, *_ = curve.points
  change = curve.quality(point) - curve.quality(full)
  best = ("size",) * (point.name in by_size) + ("latency",) * (
    point.name in by_time
  )
  return {
    "MB": round(point.bytes / 1e6, 2),
    "share of the bytes": f"{point.bytes / full.bytes:.0%}",
    "parameters": point.parameters,
    "layers": round(point.layers, 2),
    "ms": round(point.milliseconds, 2),
    "speedup": f"{point.speedup:.2f}x",
    curve.metric: round(curve.quality(point), 4),
    "change": f"{change:+.4f}",
    "best by": ", ".join(best),
  }
