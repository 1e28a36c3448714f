"""Sides in turn, each time in a new process; what came out, side by side."""

import argparse
import dataclasses
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import rich.box
import rich.console
from rich.table import Table

from benchmarks.drawing import Drawn
from benchmarks.peers import Job

ROOT = pathlib.Path(__file__).parents[1]
PEERS = ROOT / ".venv-peers" / "bin" / "python"
"""The Python of the peers, from `launch/peers.sh`."""

_ERRORS = 2000


class Entry(NamedTuple):
  """A side in a case: its job, what it is given, and where it runs."""

  job: Job
  drawn: Drawn | None
  python: str = sys.executable


def run(entry: Entry) -> dict[str, Any]:
  """Does a job in a new process.

  Returns:
    What it printed, or `error`, the end of what it said.
  """
  job = entry.job
  env = {
    **os.environ,
    "JAX_PLATFORMS": "cuda" if job.platform == "gpu" else "cpu",
    "HF_HUB_OFFLINE": "1",
    "JAX_ENABLE_COMPILATION_CACHE": "false",
    "KERAS_BACKEND": "jax",
    "OMP_NUM_THREADS": str(job.threads),
    "TF_CPP_MIN_LOG_LEVEL": "3",
  }
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "job.json"
    path.write_text(json.dumps(dataclasses.asdict(job)))
    ran = subprocess.run(
      [entry.python, "-m", "benchmarks.peers", str(path)],
      cwd=ROOT,
      env=env,
      capture_output=True,
      text=True,
      check=False,
    )
  if ran.returncode:
    return {"error": f"exit code {ran.returncode}: {ran.stderr[-_ERRORS:]}"}
  return json.loads(ran.stdout.splitlines()[-1])


def alternate(entries: Mapping[str, Entry], rounds: int) -> dict[str, Any]:
  """All sides in turn, so many times; one that fails is not tried again.

  Returns:
    By side, what it was given and its runs.
  """
  console = rich.console.Console(stderr=True)
  found = {
    name: {**(entry.drawn._asdict() if entry.drawn else {}), "runs": []}
    for name, entry in entries.items()
  }
  for number in range(1, rounds + 1):
    for name, entry in entries.items():
      if any("error" in one for one in found[name]["runs"]):
        continue
      ran = run(entry)
      found[name]["runs"].append(ran)
      told = ran.get("error") or f"{ran['seconds']:.1f} s"
      console.print(f"round {number}: {name}: {told}", markup=False)
  return found


def seconds(side: Mapping[str, Any]) -> list[float]:
  """Of each round; none of a side that failed."""
  if any("error" in ran for ran in side["runs"]):
    return []
  return [ran["seconds"] for ran in side["runs"]]


def rates(side: Mapping[str, Any], what: str = "tokens") -> list[float]:
  """Tokens, sequences or FLOPs a second, of each round."""
  return [side[what] / one for one in seconds(side)]


def ratios(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[float]:
  """The rates of a side over those of another, round by round."""
  return [x / y for x, y in zip(rates(a), rates(b))]


def spread(values: Sequence[float], form: str = ",.0f") -> str:
  """The median and the range."""
  if not values:
    return "failed"
  middle, low, high = statistics.median(values), min(values), max(values)
  return f"{middle:{form}} ({low:{form}}-{high:{form}})"


def machine() -> dict[str, Any]:
  """What the figures hold for."""
  info = pathlib.Path("/proc/cpuinfo")
  text = info.read_text() if info.exists() else ""
  name = re.search(r"model name\s*: (.+)", text)
  return {
    "processor": name[1] if name else platform.processor(),
    "cores": len(os.sched_getaffinity(0)),
    "platform": platform.platform(),
    "load": os.getloadavg()[0],
  }


def title(results: Mapping[str, Any]) -> str:
  """Where and with what it was measured."""
  found, versions = results["machine"], {}
  for case in results["cases"]:
    for side in case["sides"].values():
      for ran in side["runs"]:
        versions |= ran.get("versions", {})
  packages = ", ".join(f"{name} {x}" for name, x in sorted(versions.items()))
  return (
    f"{found['processor']}, {found['cores']} cores; {packages}; load before"
    f" {found['load']:.1f}"
  )


def print_table(table: Table) -> None:
  """Prints a table in full width, in Markdown."""
  table.box = rich.box.MARKDOWN
  rich.console.Console(width=160).print(table, highlight=False)


def to_json(results: Mapping[str, Any]) -> str:
  """The results as a file has them."""
  return json.dumps(results, indent=1, default=str) + "\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """The flags that say how the sides are run."""
  parser.add_argument(
    "--peer-python", default=str(PEERS), help="the Python of the peers"
  )
  parser.add_argument(
    "--ours",
    nargs="+",
    default=[],
    type=_change,
    metavar="KEY=JSON",
    help='changes to our recipe, as model.attention="xla"',
  )
  parser.add_argument("--threads", type=int, default=os.cpu_count())
  parser.add_argument(
    "--tiny", action="store_true", help="two small layers, nothing written"
  )


def _change(text: str) -> tuple[str, Any]:
  """A key of the recipe and its value."""
  name, _, value = text.partition("=")
  return name, json.loads(value)


def check(
  parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> None:
  """Ends the program where flags make no sense."""
  if shutil.which(arguments.peer_python) is None:
    parser.error(
      f"--peer-python: no program {arguments.peer_python}; make it with"
      " ./launch/peers.sh"
    )
  for name, value in vars(arguments).items():
    if isinstance(value, int) and not isinstance(value, bool) and value < 1:
      parser.error(f"--{name}: expected at least 1")
