"""Processor time a request, time, memory and start, beside Infinity."""

import asyncio
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks import runner
from benchmarks.serving import load, servers
from benchmarks.serving.servers import Server

# The name of a case, its clients, its requests, and its texts.
CASES = (
  ("short texts alone", 1, 300, load.short_texts),
  ("short texts, 32 clients", 32, 1280, load.short_texts),
  ("mixed lengths, 32 clients", 32, 640, load.mixed_texts),
)
_COMPARED = 20


def _case(
  server: Server,
  clients: int,
  count: int,
  texts: Callable[..., list[str]],
) -> dict[str, Any]:
  """Loads the server; what it took, by request."""
  warm, timed = texts(count // 4, seed=1), texts(count, seed=2)
  asyncio.run(load.closed_loop(server.port, warm, clients, len(warm)))
  before = server.processor_seconds(), server.thread_seconds()
  answers = asyncio.run(load.closed_loop(server.port, timed, clients, count))
  processor = server.processor_seconds() - before[0]
  threads = [
    seconds - before[1].get(name, 0)
    for name, seconds in server.thread_seconds().items()
  ]
  seconds = load.times(answers)
  if len(seconds) < count:
    raise SystemExit(f"error: statuses {load.statuses(answers)}")
  return {
    "processor_ms": 1000 * processor / count,
    # The busiest thread computes; the others read, tokenize and write.
    "other_threads": 1 - max(threads) / processor,
    "p50_ms": 1000 * statistics.median(seconds),
    "p99_ms": 1000 * load.percentile(seconds, 0.99),
  }


def measure(
  export: str, folder: str, python: str, rounds: int, quick: bool
) -> dict[str, Any]:
  """Runs both servers in turn, each on one core.

  Args:
    export: of the model, for ours.
    folder: of the model, for Infinity.
    python: of Infinity's environment; empty leaves it out.
    rounds: the number of processes of each.
    quick: a tenth of the requests.

  Returns:
    For each server and round, the time to ready, the memory, and by case what
    `_case` returns; and the largest difference of their vectors.
  """
  makers: dict[str, Callable[[], Server]] = {
    "ours": lambda: servers.ours(export, {0})
  }
  if python:
    makers["infinity"] = lambda: servers.infinity(python, folder, {0})
  found: dict[str, Any] = {name: [] for name in makers}
  texts = load.mixed_texts(_COMPARED, seed=3)
  vectors = {}
  for number in range(rounds):
    for name, make in makers.items():
      with servers.running(make()) as server:
        ran: dict[str, Any] = {
          "start_seconds": server.start_seconds,
          "memory_at_start": server.memory(),
          "cases": {},
        }
        for title, clients, count, texts_of in CASES:
          size = max(count // 10, clients) if quick else count
          ran["cases"][title] = _case(server, clients, size, texts_of)
        answers = asyncio.run(load.closed_loop(server.port, texts, 1, 20))
        vectors[name] = np.array([load.vectors(x)[0] for x in answers])
        ran["memory"] = server.memory()
      found[name].append(ran)
      cases = [f"{x['processor_ms']:.1f}" for x in ran["cases"].values()]
      print(f"round {number + 1}: {name}: {', '.join(cases)} ms", flush=True)
  if python:
    difference = np.abs(vectors["ours"] - vectors["infinity"]).max()
    found["difference"] = float(difference)
  return found


def tables(found: Mapping[str, Any]) -> list[Table]:
  """The tables of the results."""
  first = Table(
    "case",
    "server",
    "processor time a request, ms",
    "ours / its",
    "HTTP and tokenization",
    "p50, ms",
    "p99, ms",
  )
  names = [name for name in ("ours", "infinity") if name in found]
  for title, *_ in CASES:
    own = [ran["cases"][title]["processor_ms"] for ran in found["ours"]]
    for name in names:
      runs = [ran["cases"][title] for ran in found[name]]
      first.add_row(
        title,
        name,
        _spread(runs, "processor_ms"),
        ""
        if name == "ours"
        else runner.spread(
          [x / y["processor_ms"] for x, y in zip(own, runs)], ".2f"
        ),
        _spread(runs, "other_threads", ".0%") if name == "ours" else "",
        _spread(runs, "p50_ms"),
        _spread(runs, "p99_ms"),
      )
  second = Table("server", "start to ready, s", "memory, MB", "after load, MB")
  for name in names:
    runs = found[name]
    second.add_row(
      name,
      _spread(runs, "start_seconds"),
      runner.spread([x["memory_at_start"] / 1e6 for x in runs], ".0f"),
      runner.spread([x["memory"] / 1e6 for x in runs], ".0f"),
    )
  return [first, second]


def _spread(
  runs: Sequence[Mapping[str, Any]], key: str, form: str = ".1f"
) -> str:
  return runner.spread([ran[key] for ran in runs], form)
