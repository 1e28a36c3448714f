"""Five times as many requests as the server holds, and a long soak."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from benchmarks.serving import load, servers
from benchmarks.serving.servers import Server

# Requests that the queue holds with the default settings, and connections
# below the default limit.
_FULL = 512
_CONNECTIONS = 950
_TIMES = 5


def overload(export: str, quick: bool) -> dict[str, Any]:
  """Full load, and then five times as many requests.

  Full load is `_FULL` clients that each wait for an answer: as many requests as
  the queue holds, of which none is refused.
  """
  seconds = 5 if quick else 20
  texts = load.short_texts(2000)

  def result(answers: list[load.Answer], took: float) -> dict[str, Any]:
    accepted = load.times(answers)
    return {
      "requests_per_second": len(answers) / took,
      "accepted_per_second": len(accepted) / took,
      "p50": load.percentile(accepted, 0.5),
      "p99": load.percentile(accepted, 0.99),
      "statuses": load.statuses(answers),
    }

  found = {}
  with servers.running(servers.ours(export, {0})) as server:
    asyncio.run(load.closed_loop(server.port, texts, 32, 200))
    for clients in (32, _FULL):
      began = time.perf_counter()
      answers = asyncio.run(
        load.closed_loop(server.port, texts, clients, 1_000_000, seconds)
      )
      took = time.perf_counter() - began
      found[f"{clients} clients"] = result(answers, took)
    rate = _TIMES * found[f"{_FULL} clients"]["accepted_per_second"]
    began = time.perf_counter()
    answers = asyncio.run(
      load.open_loop(server.port, texts, rate, seconds, _CONNECTIONS)
    )
    took = time.perf_counter() - began
    found[f"{_TIMES} times as many"] = result(answers, took)
    answer = asyncio.run(load.closed_loop(server.port, texts, 1, 20))
    found["afterwards"] = result(answer, 1)
  return found


def overload_table(found: Mapping[str, Any]) -> Table:
  """The table of `overload`."""
  table = Table(
    "load", "requests/s", "accepted/s", "p50, s", "p99, s", "statuses"
  )
  for name, ran in found.items():
    table.add_row(
      name,
      f"{ran['requests_per_second']:,.0f}",
      f"{ran['accepted_per_second']:,.0f}",
      f"{ran['p50']:.2f}",
      f"{ran['p99']:.2f}",
      ", ".join(f"{count:,} x {x}" for x, count in ran["statuses"].items()),
    )
  return table


def soak(export: str, seconds: float) -> dict[str, Any]:
  """Eight clients with texts of mixed lengths for some time.

  Returns:
    The memory after a tenth of the time, at the end and at its peak, in bytes;
    the number of answers by status.
  """
  texts = load.mixed_texts(5000)
  with servers.running(servers.ours(export, {0})) as server:

    async def run() -> tuple[list[int], dict[int, int]]:
      sampled = asyncio.create_task(_sample(server, seconds))
      counts: dict[int, int] = {}
      end = time.perf_counter() + seconds
      while (left := end - time.perf_counter()) > 0:
        # In parts, so that this process does not keep all answers.
        answers = await load.closed_loop(
          server.port, texts, 8, len(texts), min(left, 60)
        )
        for status, count in load.statuses(answers).items():
          counts[status] = counts.get(status, 0) + count
      return await sampled, counts

    memory, counts = asyncio.run(run())
  return {
    "seconds": seconds,
    "memory_after_a_tenth": memory[len(memory) // 10],
    "memory_at_the_end": memory[-1],
    "memory_peak": max(memory),
    "statuses": counts,
  }


async def _sample(server: Server, seconds: float) -> list[int]:
  found = []
  for _ in range(100):
    await asyncio.sleep(seconds / 100)
    found.append(server.memory())
  return found


def soak_line(found: Mapping[str, Any]) -> str:
  """The result of `soak` in a line."""
  after, last = found["memory_after_a_tenth"], found["memory_at_the_end"]
  return (
    f"soak of {found['seconds']:,.0f} s: statuses {found['statuses']}; memory"
    f" {after / 1e6:.0f} MB after a tenth, {last / 1e6:.0f} MB at the end, peak"
    f" {found['memory_peak'] / 1e6:.0f} MB"
  )
