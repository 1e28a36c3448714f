"""Processes that measure in turn, one for each engine of a benchmark."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Workers = Mapping[str, subprocess.Popen]


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
      cwd=pathlib.Path(__file__).parents[1],
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
  workers: Workers, case: str, number: int
) -> Iterator[tuple[str, dict[str, Any]]]:
  """What each worker that has not failed measures, by engine.

  The order of the workers is another one in each round, of this number.
  """
  items = list(workers.items())
  start = number % len(items)
  for engine, worker in items[start:] + items[:start]:
    if (answer := _ask(worker, case)) is not None:
      yield engine, answer


def _ask(worker: subprocess.Popen, case: str) -> dict[str, Any] | None:
  """What a worker measured; None of one that failed."""
  try:
    worker.stdin.write(f"{case}\n")
    worker.stdin.flush()
    line = worker.stdout.readline()
  except BrokenPipeError:
    return None
  return json.loads(line) if line else None
