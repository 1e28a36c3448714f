"""Runs implementations in turn, each time in a new process."""

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
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import rich.box
import rich.console
from rich.table import Table

from benchmarks.batches import BatchFile
from benchmarks.cases import Case, Text
from benchmarks.peers import Job
from bert_jax.settings import UserError

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
PEERS = ROOT / ".venv-peers" / "bin" / "python"
"""The Python of the environment of the peers, see `launch/peers.sh`."""

_MAX_ERROR = 2000
_TINY = "A tiny model, to test the benchmark: the figures are meaningless."


class Entry(NamedTuple):
  """An implementation in a case: its job, its batches and its Python."""

  job: Job
  batches: BatchFile | None
  python: str = sys.executable


def run(entry: Entry) -> dict[str, Any]:
  """The JSON of a job in a new process, or `error`: the end of its stderr."""
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
    return {"error": f"exit code {ran.returncode}: {ran.stderr[-_MAX_ERROR:]}"}
  return json.loads(ran.stdout.splitlines()[-1])


def alternate(entries: Mapping[str, Entry], rounds: int) -> dict[str, Any]:
  """Runs all implementations in turn, for some rounds.

  An implementation that fails is not run again. The results of each have the
  fields of its `BatchFile`, and `runs`.
  """
  console = rich.console.Console(stderr=True)
  found = {
    name: {**(entry.batches._asdict() if entry.batches else {}), "runs": []}
    for name, entry in entries.items()
  }
  for number in range(1, rounds + 1):
    for name, entry in entries.items():
      if any("error" in one for one in found[name]["runs"]):
        continue
      ran = run(entry)
      found[name]["runs"].append(ran)
      message = ran.get("error") or f"{ran['seconds']:.1f} s"
      console.print(f"round {number}: {name}: {message}", markup=False)
  return found


def seconds(result: Mapping[str, Any]) -> list[float]:
  """The seconds of each round; empty for an implementation that failed."""
  if any("error" in ran for ran in result["runs"]):
    return []
  return [ran["seconds"] for ran in result["runs"]]


def rates(result: Mapping[str, Any], unit: str = "tokens") -> list[float]:
  """Tokens, sequences or FLOPs per second, of each round."""
  return [result[unit] / one for one in seconds(result)]


def ratios(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[float]:
  """The rates of one implementation over those of another, by round."""
  return [x / y for x, y in zip(rates(a), rates(b))]


def spread(values: Sequence[float], form: str = ",.0f") -> str:
  """The median and the range."""
  if not values:
    return "failed"
  middle, low, high = statistics.median(values), min(values), max(values)
  return f"{middle:{form}} ({low:{form}}-{high:{form}})"


def machine() -> dict[str, Any]:
  """The properties of this machine."""
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
  """The machine and the versions of packages, for the title of a table."""
  found, versions = results["machine"], {}
  for case in results["cases"]:
    for result in case["results"].values():
      for ran in result["runs"]:
        versions |= ran.get("versions", {})
  packages = ", ".join(f"{name} {x}" for name, x in sorted(versions.items()))
  return (
    f"{found['processor']}, {found['cores']} cores; {packages}; load before"
    f" {found['load']:.1f}"
  )


def measure(
  results: dict[str, Any],
  named: Mapping[str, Case],
  entries: Callable[..., dict[str, Entry]],
  arguments: argparse.Namespace,
  output: pathlib.Path,
) -> None:
  """Adds the results of all cases to `results`, and writes them after each."""
  results |= {"arguments": vars(arguments), "cases": []}
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    try:
      corpus = Text.prepare(arguments.text, arguments.documents, folder)
      for title, case in named.items():
        jobs = entries(case, corpus, arguments, folder)
        found = alternate(jobs, arguments.rounds)
        entry = {**dataclasses.asdict(case), "name": title, "results": found}
        results["cases"].append(entry)
        if not arguments.tiny:
          write_results(output, results)
    except UserError as error:
      raise SystemExit(f"error: {error}") from None


def print_results(
  results: Mapping[str, Any], heading: str, table: Callable[..., Table]
) -> None:
  """Prints the table of each case."""
  if results["arguments"]["tiny"]:
    print(_TINY)
  print(heading)
  for case in results["cases"]:
    print_table(table(results, case))


def print_table(table: Table) -> None:
  """Prints a table as Markdown."""
  table.box = rich.box.MARKDOWN
  rich.console.Console(width=160).print(table, highlight=False)


def write_results(path: pathlib.Path, results: Any) -> None:
  """Writes results as JSON."""
  path.parent.mkdir(exist_ok=True)
  path.write_text(json.dumps(results, indent=1, default=str) + "\n")


def write_unless_tiny(name: str, results: Mapping[str, Any]) -> None:
  """Writes benchmarks/results/NAME.json; of `--tiny` says why not."""
  if results["arguments"]["tiny"]:
    print(_TINY)
  else:
    write_results(RESULTS / f"{name}.json", results)


def json_of(python: str, module: str, *arguments: str) -> Any:
  """Runs a module in a new process; the JSON in its last line."""
  ran = subprocess.run(
    [python, "-m", module, *arguments],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  )
  return json.loads(ran.stdout.splitlines()[-1])


def use_cores(count: int) -> None:
  """Limits this process, new threads and processes to some cores."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:count])
  jax.config.update("jax_platforms", "cpu")


def parser(description: str) -> argparse.ArgumentParser:
  """A parser whose help is the docstring of a module."""
  return argparse.ArgumentParser(
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Adds the flags for running implementations."""
  parser.add_argument(
    "--peer_python", default=str(PEERS), help="the Python of the peers"
  )
  parser.add_argument(
    "--ours",
    nargs="+",
    default=[],
    type=key_and_value,
    metavar="KEY=JSON",
    help='changes to our recipe, such as model.attention="xla"',
  )
  parser.add_argument("--threads", type=int, default=os.cpu_count())
  parser.add_argument(
    "--tiny",
    action="store_true",
    help="test with two small layers; writes no file",
  )


def key_and_value(text: str) -> tuple[str, Any]:
  """Parses `KEY=JSON`, for flags."""
  name, _, value = text.partition("=")
  return name, json.loads(value)


def check(
  parser: argparse.ArgumentParser, arguments: argparse.Namespace
) -> None:
  """Exits with a message if flags are invalid."""
  if shutil.which(arguments.peer_python) is None:
    parser.error(
      f"--peer_python: no program {arguments.peer_python}; create it"
      " with ./launch/peers.sh"
    )
  for name, value in vars(arguments).items():
    if type(value) is int and value < 1:
      parser.error(f"--{name}: expected at least 1")
