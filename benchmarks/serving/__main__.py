"""The server under load, compared with Infinity.

  ./launch/peers.sh   # Once, for the environment of Infinity.
  python -m benchmarks.serving FOLDER

FOLDER is a model for embeddings in the Hugging Face format, such as MiniLM; it
is exported to ONNX first. The servers run on one core with one thread, the
clients on another core, and all traffic is on 127.0.0.1. The parts:

  speed         processor time a request, time, memory and start, with Infinity
                in turn: short texts alone, short texts of 32 clients, texts of
                mixed lengths of 32 clients
  overload      as many requests as the queue holds, and five times as many
  slow_clients  clients that are idle, send slowly, send too much, or do not
                read
  hot_updates   new versions under load
  stops         SIGTERM under load
  soak          eight clients for some time (`--soak_seconds`)

Writes benchmarks/results/serving.json.
"""

import argparse
import os
import pathlib
import tempfile
from typing import Any

from benchmarks import runner
from benchmarks.serving import overload, slow_clients, speed, updates

_INFINITY = runner.ROOT / ".venv-infinity" / "bin" / "python"
_PARTS = ("speed", "overload", "slow_clients", "hot_updates", "stops", "soak")


def _arguments() -> argparse.Namespace:
  parser = runner.parser(__doc__)
  parser.add_argument("folder")
  parser.add_argument("--parts", nargs="+", default=_PARTS, choices=_PARTS)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument(
    "--peer_python", default=str(_INFINITY), help="empty: without Infinity"
  )
  parser.add_argument("--updates", type=int, default=100)
  parser.add_argument("--stops", type=int, default=20)
  parser.add_argument("--soak_seconds", type=float, default=3600)
  parser.add_argument(
    "--quick", action="store_true", help="a part of everything; writes no file"
  )
  arguments = parser.parse_args()
  if arguments.peer_python and "speed" in arguments.parts:
    runner.check(parser, arguments)
  if len(os.sched_getaffinity(0)) < 2:
    parser.error("needs two cores, one for the server and one for the clients")
  if arguments.quick:
    arguments.rounds, arguments.updates, arguments.stops = 1, 5, 2
    arguments.soak_seconds = min(arguments.soak_seconds, 20)
  return arguments


def main() -> None:
  """Measures, prints and writes the results."""
  arguments = _arguments()
  model, quick = str(pathlib.Path(arguments.folder).resolve()), arguments.quick
  results: dict[str, Any] = {
    "machine": runner.machine(),
    "arguments": vars(arguments),
  }
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    export = updates.export(model, folder / "export")
    os.sched_setaffinity(0, {1})
    for part in arguments.parts:
      if part == "speed":
        found = speed.measure(
          export, model, arguments.peer_python, arguments.rounds, quick
        )
        for table in speed.tables(found):
          runner.print_table(table)
        if "difference" in found:
          print(f"vectors differ by {found['difference']:.1e}")
      elif part == "overload":
        found = overload.overload(export, quick)
        runner.print_table(overload.overload_table(found))
      elif part == "slow_clients":
        found = slow_clients.measure(export, quick)
        runner.print_table(slow_clients.table(found))
      elif part == "hot_updates":
        other = updates.changed(model, folder / "changed")
        second = updates.export(other, folder / "second")
        found = updates.hot_updates([export, second], folder, arguments.updates)
        print(updates.line(part, found))
      elif part == "stops":
        found = updates.stops(export, arguments.stops)
        print(updates.line(part, found))
      else:
        found = overload.soak(export, arguments.soak_seconds)
        print(overload.soak_line(found))
      results[part] = found
      if not quick:
        runner.write_results(runner.RESULTS / "serving.json", results)


if __name__ == "__main__":
  main()
