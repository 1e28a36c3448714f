"""Runs one job, and prints the measurements as JSON on the last line."""

import importlib
import json
import os
import pathlib
import sys
import time

from benchmarks import peers

# The number of matrix products, the first of which is a warm-up.
_PRODUCTS = 6


def main() -> None:
  job = peers.Job(**json.loads(pathlib.Path(sys.argv[1]).read_text()))
  implementation = importlib.import_module(f"benchmarks.peers.{job.module}")
  batches = peers.load(job.batches) if job.batches else [None] * _PRODUCTS
  first, timed = batches[: job.warmup], batches[job.warmup :]
  if job.kind == "inference":
    # The implementation pads texts itself, so it warms up with all of them.
    first = batches if job.batches.endswith(".json") else first
    timed = batches
  began = time.perf_counter()
  run = getattr(implementation, job.kind)(job)
  run(first)
  ready = time.perf_counter()
  last = run(timed)
  done = time.perf_counter()
  found = {
    "seconds": done - ready,
    "count": len(timed),
    "ready_seconds": ready - began,
    "last": last,
    "load": os.getloadavg()[0],
    "versions": implementation.versions(),
  }
  print(json.dumps(found))


if __name__ == "__main__":
  main()
