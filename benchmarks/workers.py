"""Processes that measure in turn, one for each engine of a benchmark."""

import argparse
import contextlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Workers = Mapping[str, subprocess.Popen]

_ROOT = pathlib.Path(__file__).parents[1]


def parser(
  description: str,
  engines: Sequence[str],
  peers: str,
  rounds: int,
  threads: int,
) -> argparse.ArgumentParser:
  """A parser of what the benchmark and its workers are told.

  Args:
    description: the docstring of the benchmark.
    engines: the names of all engines.
    peers: the folder of the environment of the peers.
    rounds: by default.
    threads: by default.
  """
  made = argparse.ArgumentParser(
    description=description,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  made.add_argument("folder", nargs="?", default="")
  made.add_argument("--engines", nargs="+", default=engines, choices=engines)
  made.add_argument("--rounds", type=int, default=rounds)
  made.add_argument("--threads", type=int, default=threads)
  made.add_argument(
    "--peer_python", default=str(_ROOT / peers / "bin" / "python")
  )
  made.add_argument("--tiny", action="store_true")
  made.add_argument("--engine", choices=engines, help=argparse.SUPPRESS)
  return made


@contextlib.contextmanager
def running(
  module: str,
  folder: pathlib.Path,
  engines: Sequence[str],
  peers: Sequence[str],
  peer_python: str,
  threads: int,
) -> Iterator[Workers]:
  """The workers by engine: `python -m MODULE --engine ENGINE FOLDER`.

  A worker reads the name of a case from each line of its input, and writes what
  it measured as a line of JSON.

  Args:
    module: of the benchmark.
    folder: with the models.
    engines: their names.
    peers: the engines that run in another environment.
    peer_python: the interpreter of that.
    threads: that an engine computes with.
  """
  environment = {
    **os.environ,
    "JAX_PLATFORMS": "cpu",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": str(threads),
    "TOKENIZERS_PARALLELISM": "false",
  }
  workers = {
    engine: subprocess.Popen(
      [
        peer_python if engine in peers else sys.executable,
        *("-m", module, "--engine", engine, str(folder)),
        *("--threads", str(threads)),
      ],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
      env=environment,
      cwd=_ROOT,
    )
    for engine in engines
  }
  try:
    yield workers
  finally:
    for worker in workers.values():
      with contextlib.suppress(BrokenPipeError):  # Of one that failed.
        worker.stdin.close()
      worker.wait()


def answers(
  workers: Workers, case: str, rounds: int
) -> dict[str, list[dict[str, Any]]]:
  """What each worker measured in all rounds; nothing after it has failed.

  The order of the workers is another one in each round.
  """
  found: dict[str, list[dict[str, Any]]] = {engine: [] for engine in workers}
  items = list(workers.items())
  for number in range(rounds):
    start = number % len(items)
    for engine, worker in items[start:] + items[:start]:
      if (answer := _ask(worker, case)) is not None:
        found[engine].append(answer)
  return found


def _ask(worker: subprocess.Popen, case: str) -> dict[str, Any] | None:
  """What a worker measured; None of one that failed."""
  try:
    worker.stdin.write(f"{case}\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
  except BrokenPipeError:
    return None
  return json.loads(line) if line else None
