"""Compares the engines of an exported embedding model with PyTorch.

  ./launch/peers.sh   # Once, for the environment of PyTorch.
  python -m benchmarks.export [FOLDER] [--rounds 9] [--threads 1]

FOLDER is what `bert_jax.load` takes; by default MiniLM's architecture with
random weights. Engines get the same token ids, rows without padding, and give
pooled vectors: JAX (pooled in NumPy), ONNX Runtime on a file of standard
operators, on one with its own, and on one of 8 bits, OpenVINO on the standard
file (`pip install "bert_jax[openvino]"`), and PyTorch with Transformers' scaled
dot-product attention.

Each engine has a process of its own, on the same cores, and computes in turn
with the others. Time is that of the processor, of all threads. A ratio is the
time of PyTorch over the time of the engine in the same round.

Writes benchmarks/results/export.json. `--tiny` only tests the benchmark itself.
"""

import argparse
import json
import os
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks import random_models, workers

CASES = {"1 x 16": (1, 16), "1 x 128": (1, 128), "32 x 128": (32, 128)}
"""Rows and tokens of a row, by name."""
ENGINES = ("torch", "jax", "onnx", "onnx-contrib", "onnx-8-bits", "openvino")
PEER = "torch"

_WIDTH = 6000  # Token ids are below; all vocabularies are larger.
# Seconds of processor time that one measurement takes about.
_SECONDS = 0.3

Run = Callable[[np.ndarray], np.ndarray]
"""From token ids, int64 [rows, length], to vectors, float32 [rows, width]."""


def torch(folder: pathlib.Path, threads: int) -> Run:
  import torch
  import transformers

  torch.set_num_threads(threads)
  model = transformers.AutoModel.from_pretrained(
    folder / "huggingface", attn_implementation="sdpa"
  ).eval()

  def run(ids: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
      ids = torch.from_numpy(ids)
      mask = torch.ones_like(ids)
      hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
      weights = mask[..., None].to(hidden.dtype)
      mean = (hidden * weights).sum(1) / weights.sum(1)
      return torch.nn.functional.normalize(mean).numpy()

  return run


def ours(engine: str, folder: pathlib.Path, threads: int) -> Run:
  from launch import process

  process.keep_memory()  # As a command does.
  import bert_jax
  from bert_jax.batch import Batch

  # Its parameters are only read where JAX computes.
  model = bert_jax.load(folder / "huggingface")
  task, forward = model.task, model.forward
  if engine == "openvino":
    from bert_jax.engines.openvino import OpenVinoForward

    forward = OpenVinoForward(folder / "onnx.onnx", task, threads)
  elif engine != "jax":
    from bert_jax.engines.onnx import OnnxForward

    forward = OnnxForward(folder / f"{engine}.onnx", task, threads)

  def run(ids: np.ndarray) -> np.ndarray:
    batch = Batch.from_ids(ids)
    if engine != "jax":
      return forward(batch, ("sentence_embedding",))["sentence_embedding"]
    rows = task.predict(forward(batch), batch, [{}] * len(ids))
    return np.stack([vector for row in rows for vector in row.values()])

  return run


def work(engine: str, folder: pathlib.Path, threads: int) -> None:
  """Computes the cases that are named on lines of the standard input."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
  from bert_jax.settings import UserError

  try:
    run = (
      torch(folder, threads)
      if engine == PEER
      else ours(engine, folder, threads)
    )
  except UserError as error:
    raise SystemExit(f"{engine}: {error}") from None
  counts: dict[str, int] = {}
  for line in sys.stdin:
    case = line.strip()
    rng = np.random.default_rng(0)
    ids = rng.integers(1000, _WIDTH, CASES[case])
    if case not in counts:
      run(ids)  # Compiles.
      began = time.process_time()
      run(ids)
      spent = max(time.process_time() - began, 1e-4)
      counts[case] = max(1, int(_SECONDS / spent))
    began = time.process_time()
    for _ in range(counts[case]):
      vectors = run(ids)
    seconds = (time.process_time() - began) / counts[case]
    found = {"seconds": seconds, "vector": vectors[0].tolist()}
    print(json.dumps(found), flush=True)


def write(model: Any, folder: pathlib.Path) -> None:
  """Writes what the engines read."""
  import bert_jax
  from bert_jax.export import onnx

  bert_jax.save(model, folder / "huggingface")
  standard = onnx.build(model.task, model.params)
  contrib = onnx.build(model.task, model.params, "onnxruntime")
  onnx.save(standard, folder / "onnx.onnx")
  onnx.save(contrib, folder / "onnx-contrib.onnx")
  onnx.save(onnx.quantize(contrib), folder / "onnx-8-bits.onnx")


def random_model(tiny: bool) -> Any:
  """A MiniLM with random weights, as large as trained ones are."""
  from bert_jax.tasks import EMBEDDING
  from bert_jax.tasks.targets.similarity import Similarity

  target = Similarity(("mean",), normalize=True)
  task = EMBEDDING.with_targets(dict.fromkeys(EMBEDDING.targets, target))
  return random_models.minilm(task, tiny=tiny)


def measure(
  arguments: argparse.Namespace, folder: pathlib.Path
) -> dict[str, Any]:
  """The rounds of each case and engine: seconds of processor time a batch."""
  found: dict[str, Any] = {}
  with workers.running(
    "benchmarks.export",
    folder,
    arguments.engines,
    [PEER],
    arguments.peer_python,
    arguments.threads,
  ) as running:
    for case in arguments.cases:
      answers = workers.answers(running, case, arguments.rounds)
      vectors = {
        engine: np.array(own[-1]["vector"])
        for engine, own in answers.items()
        if own
      }
      found[case] = {
        "seconds": {
          engine: [answer["seconds"] for answer in own]
          for engine, own in answers.items()
        },
        "differences": {
          engine: float(np.abs(vector - vectors[PEER]).max())
          for engine, vector in vectors.items()
          if PEER in vectors
        },
      }
  return found


def print_results(results: Mapping[str, Any]) -> None:
  """Prints a table for each case, as Markdown."""
  from rich.table import Table

  from benchmarks import runner

  for case, found in results["cases"].items():
    table = Table(
      case, "ms (range)", f"{PEER} / it (range)", "largest difference"
    )
    peer = found["seconds"].get(PEER, [])
    for engine, seconds in found["seconds"].items():
      if not seconds:
        table.add_row(engine, "failed")
        continue
      ratios = [theirs / own for theirs, own in zip(peer, seconds)]
      table.add_row(
        engine,
        runner.spread([1e3 * x for x in seconds], ".1f"),
        runner.spread(ratios, ".2f") if ratios and engine != PEER else "-",
        f"{found['differences'].get(engine, float('nan')):.1g}",
      )
    runner.print_table(table)
    print(verdict(case, found["seconds"]))


def verdict(case: str, seconds: Mapping[str, Sequence[float]]) -> str:
  """Compares our fastest engine in float32 with PyTorch, in one line."""
  exact = {
    engine: statistics.median(found)
    for engine, found in seconds.items()
    if found and engine not in (PEER, "onnx-8-bits")
  }
  if not exact or not seconds.get(PEER):
    return f"{case}: nothing to compare"
  best = min(exact, key=exact.get)
  ratio = statistics.median(
    theirs / own for theirs, own in zip(seconds[PEER], seconds[best])
  )
  return f"{case}: {best} is {ratio:.2f} times as fast as {PEER}"


def main() -> None:
  parser = workers.parser(__doc__, ENGINES, ".venv-peers", rounds=9, threads=1)
  parser.add_argument(
    "--cases", nargs="+", default=list(CASES), choices=CASES, metavar="CASE"
  )
  arguments = parser.parse_args()
  if arguments.engine:
    folder = pathlib.Path(arguments.folder)
    work(arguments.engine, folder, arguments.threads)
    return
  import bert_jax
  from benchmarks import runner

  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    given = arguments.folder
    write(
      bert_jax.load(given) if given else random_model(arguments.tiny), folder
    )
    results = {
      "machine": runner.machine(),
      "arguments": vars(arguments),
      "cases": measure(arguments, folder),
    }
  runner.write_unless_tiny("export", results)
  print_results(results)


if __name__ == "__main__":
  main()
