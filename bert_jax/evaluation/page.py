"""An evaluation as one page for people: HTML that needs nothing else."""

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bert_jax.tasks.targets.view import Confusion, View
from bert_jax.training import metrics as metrics_lib

LABELS = 30
"""Of more labels, a confusion matrix is shown as its largest entries."""

_LONGEST, _SHORT = 500, 40
_ROWS = 40
_HEAT = "37 99 235"

_STYLE = """
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 76rem;
  margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin-top: 2.5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #8885;
  text-align: start; vertical-align: top; }
td, tbody th { overflow-wrap: break-word; white-space: pre-wrap; }
tbody th { font-weight: normal; }
th.number, td.number { text-align: end; white-space: nowrap; }
.short { max-width: 20rem; }
.long { min-width: 14rem; max-width: 32rem; }
p { margin: .2rem 0; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
.matrix th, .matrix td { border: 1px solid #8883; padding: .15rem .4rem;
  white-space: nowrap; vertical-align: middle; }
.matrix td { text-align: center; min-width: 1.6rem; }
.matrix .tilted th { writing-mode: vertical-rl; max-height: 12rem;
  font-weight: normal; }
.matrix th { max-width: 14rem; overflow: hidden; text-overflow: ellipsis; }
.right { outline: 2px solid #8889; outline-offset: -2px; }
.note { opacity: .75; }
img { max-width: 100%; border-radius: 4px; }
"""


def render(
  title: str,
  facts: Mapping[str, Any],
  metrics: Mapping[str, float],
  baselines: Mapping[str, float],
  view: View,
  skipped: Sequence[str] = (),
  curves: bytes | None = None,
) -> str:
  """The page.

  Args:
    title: the model and its task.
    facts: shown in a line each.
    metrics: by name.
    baselines: of the best constant answer; their names begin with the metrics'.
    view: the task's tables, mistakes and confusion matrix.
    skipped: what is wrong with each row that was left out.
    curves: a PNG of the training, if there was one.
  """
  parts = [
    f"<h1>{text(title)}</h1>",
    *lines(facts),
    "<h2>Metrics</h2>",
    _metrics(metrics, baselines),
    *lines(view.facts),
  ]
  if curves is not None:
    alt = "Measures by step, in training and held out"
    parts += ["<h2>Training</h2>", image(curves, alt)]
  if view.confusion is not None:
    parts += _confusion(view.confusion)
  for name, rows in view.tables.items():
    parts += [f"<h2>By {text(name)}</h2>", table(rows.items(), "")]
  if view.mistakes:
    numbered = enumerate(view.mistakes, 1)
    parts += ["<h2>The worst mistakes</h2>", table(numbered, "")]
  if view.best:
    numbered = enumerate(view.best, 1)
    parts += ["<h2>The best answers</h2>", table(numbered, "")]
  if skipped:
    listed = "".join(f"<li>{text(line)}</li>\n" for line in skipped[:_ROWS])
    more = len(skipped) - _ROWS
    listed += f"<li>and {more:,} more</li>" if more > 0 else ""
    parts.append(f"<h2>{len(skipped):,} rows left out</h2><ul>{listed}</ul>")
  return document(title, parts)


def document(title: str, parts: Sequence[str]) -> str:
  """A page of HTML with a title and these parts."""
  return (
    '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width">'
    f"<title>{html.escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
    + "\n".join(parts)
    + "\n</body>\n</html>\n"
  )


def image(png: bytes, alt: str) -> str:
  """A picture that is part of the page."""
  encoded = base64.b64encode(png).decode()
  return f'<img src="data:image/png;base64,{encoded}" alt="{html.escape(alt)}">'


def lines(facts: Mapping[str, Any]) -> list[str]:
  """A paragraph for each fact."""
  return [f"<p>{text(f'{name}: {x}')}</p>" for name, x in facts.items()]


def text(value: Any) -> str:
  """Any value as text of the page, and never as markup; long ones are cut.

  Each is an element with its own direction, left to right or not.
  """
  shown = str(value)
  if len(shown) > _LONGEST:
    shown = shown[: _LONGEST - 1] + "…"
  return f"<bdi>{html.escape(shown)}</bdi>"


def _number(value: float) -> str:
  if abs(value) >= 1000 or float(value).is_integer():
    return f"{value:,.0f}"
  return f"{value:.4g}"


def _cell(value: Any) -> str:
  if isinstance(value, float | int):
    return f'<td class="number">{_number(value)}</td>'
  kind = "long" if len(str(value)) > _SHORT else "short"
  return f'<td class="{kind}" dir="auto">{text(value)}</td>'


def table(rows: Iterable[tuple[Any, Mapping[str, Any]]], name: str) -> str:
  """A table: of each row what it is called, and values by column."""
  rows = list(rows)
  columns: dict[str, Any] = {}
  for _, values in rows:
    columns = values | columns
  kinds = {
    column: "number" if isinstance(value, float | int) else ""
    for column, value in columns.items()
  }
  head = "".join(
    f'<th class="{kind}">{text(column)}</th>' for column, kind in kinds.items()
  )
  body = "".join(
    f'<tr><th class="short">{text(first)}</th>'
    + "".join(_cell(values.get(column, "")) for column in columns)
    + "</tr>\n"
    for first, values in rows
  )
  return (
    '<div class="wide"><table><thead><tr>'
    f"<th>{text(name)}</th>{head}</tr></thead>\n<tbody>{body}</tbody>"
    "</table></div>"
  )


def _metrics(
  metrics: Mapping[str, float], baselines: Mapping[str, float]
) -> str:
  rows = []
  for name, value in metrics.items():
    own = metrics_lib.baselines_of(name, {**metrics, **baselines})
    shown = (f"{_number(other)} ({kind})" for kind, other in own.items())
    rows.append((name, {"value": value, "baseline": ", ".join(shown)}))
  return table(rows, "measure")


def _confusion(confusion: Confusion) -> list[str]:
  if len(confusion.labels) <= LABELS:
    return ["<h2>Confusion matrix</h2>", _matrix(confusion)]
  rows = (
    (gold, {"predicted": taken, "how often": count})
    for gold, taken, count in confusion.pairs()[:_ROWS]
  )
  return ["<h2>Labels taken for others</h2>", table(rows, "gold")]


def _matrix(confusion: Confusion) -> str:
  """A table whose cells are the darker the greater their share of the row."""
  names = [
    f'<th title="{html.escape(name)}">{text(name)}</th>'
    for name in confusion.labels
  ]
  is_short = max(map(len, confusion.labels)) <= 4
  tilted = "" if is_short else ' class="tilted"'
  rows = []
  for i, counts in enumerate(confusion.counts.tolist()):
    total = max(sum(counts), 1)
    cells = []
    for j, count in enumerate(counts):
      heat = f"background: rgb({_HEAT} / {0.75 * count / total:.3f})"
      kind = ' class="right"' if i == j else ""
      cells.append(f'<td{kind} style="{heat}">{count or ""}</td>')
    rows.append(f"<tr>{names[i]}{''.join(cells)}</tr>")
  return (
    '<p class="note">Rows: the gold label; columns: the predicted one. The'
    " colour is the share of the row.</p>"
    f'<div class="wide"><table class="matrix"><thead{tilted}><tr><th></th>'
    f"{''.join(names)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
  )
