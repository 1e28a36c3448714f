"""Compares the time and memory of loading a checkpoint with Transformers.

  ./launch/parity.sh text   # Once, for the environment of the peer.
  python -m benchmarks.loading [FOLDER ...] [--random base large]

FOLDER is in the Hugging Face format; `--random` adds BERT models with random
weights. Each load is in a new process: `bert_jax.load`, and
`AutoModel.from_pretrained` with its tokenizer, in alternating rounds, so that
the load of the machine affects both. Every weight is read once after loading,
which is part of the measurement, as Transformers memory-maps the file. Memory
is the peak of the process minus its memory after the imports.

Writes benchmarks/results/loading.json.
"""

import argparse
import json
import pathlib
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import rich
from rich.table import Table

_PEER = pathlib.Path(__file__).parents[1] / ".venv-parity" / "bin" / "python"
_SIZES = {"base": (12, 768), "large": (24, 1024)}


def _memory(name: str) -> int:
  """A field of /proc/self/status in bytes."""
  status = pathlib.Path("/proc/self/status").read_text()
  return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024


def ours(folder: str) -> Callable[[], Any]:
  import jax
  import numpy as np

  from bert_jax import load

  def read() -> None:
    for leaf in jax.tree.leaves(load(folder).params):
      np.asarray(leaf).sum()  # Does not copy on a CPU.

  return read


def theirs(folder: str) -> Callable[[], Any]:
  import transformers

  # Transformers imports the modules of a model on first use.
  config = type(transformers.AutoConfig.from_pretrained(folder))
  transformers.MODEL_MAPPING[config]
  transformers.TOKENIZER_MAPPING[config]

  def read() -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder)
    assert len(tokenizer) <= model.config.vocab_size
    for parameter in model.parameters():
      parameter.sum()

  return read


def make_random(size: str, folder: str) -> None:
  """Writes a BERT with random weights; runs in the environment of the peer."""
  import transformers

  layers, width = _SIZES[size]
  config = transformers.BertConfig(
    num_hidden_layers=layers,
    hidden_size=width,
    num_attention_heads=width // 64,
    intermediate_size=4 * width,
  )
  transformers.BertForMaskedLM(config).save_pretrained(folder)
  special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
  words = [f"word{i}" for i in range(config.vocab_size - len(special))]
  vocabulary = pathlib.Path(folder) / "vocab.txt"
  vocabulary.write_text("\n".join(special + words))
  tokenizer = transformers.BertTokenizerFast(str(vocabulary))
  tokenizer.save_pretrained(folder)


def measure(prepare: Callable[[str], Callable[[], Any]], folder: str) -> None:
  """Prints the seconds and the bytes of one load, in this process."""
  load = prepare(folder)
  before = _memory("VmRSS")
  pathlib.Path("/proc/self/clear_refs").write_text("5")  # Resets the peak.
  start = time.perf_counter()
  load()
  seconds = time.perf_counter() - start
  result = {"seconds": seconds, "bytes": _memory("VmHWM") - before}
  print(json.dumps(result))


def compare(folder: str, peer: str, rounds: int) -> dict[str, Any]:
  """Runs both loaders in alternating rounds."""
  from benchmarks import runner  # Not in the environment of the peer.

  size = sum(p.stat().st_size for p in pathlib.Path(folder).glob("*.safet*"))
  runs: dict[str, list[dict[str, float]]] = {"ours": [], "theirs": []}
  for _ in range(rounds):
    for name, python in (("ours", sys.executable), ("theirs", peer)):
      arguments = ("benchmarks.loading", folder, "--only", name)
      runs[name].append(runner.json_of(python, *arguments))
  ratios = sorted(
    a["seconds"] / b["seconds"] for a, b in zip(runs["ours"], runs["theirs"])
  )
  return {
    "folder": folder,
    "weights_bytes": size,
    "runs": runs,
    "seconds_ours_over_theirs": statistics.median(ratios),
    "seconds_ours_over_theirs_range": [ratios[0], ratios[-1]],
    **{
      f"memory_over_weights_{name}": max(run["bytes"] for run in run_list)
      / size
      for name, run_list in runs.items()
    },
  }


def main() -> None:
  """Measures, prints and writes the results."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("folders", nargs="*")
  parser.add_argument("--random", nargs="*", default=["base"], choices=_SIZES)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--peer", default=str(_PEER), help="a Python program")
  parser.add_argument("--only", choices=["ours", "theirs", *_SIZES])
  arguments = parser.parse_args()
  if arguments.only in _SIZES:
    make_random(arguments.only, arguments.folders[0])
    print("null")  # For `runner.json_of`.
    return None
  if arguments.only:
    prepare = {"ours": ours, "theirs": theirs}[arguments.only]
    return measure(prepare, arguments.folders[0])
  from benchmarks import runner  # Not in the environment of the peer.

  results = [
    compare(
      str(pathlib.Path(folder).resolve()), arguments.peer, arguments.rounds
    )
    for folder in arguments.folders
  ]
  for size in arguments.random:
    with tempfile.TemporaryDirectory() as name:
      folder = str(pathlib.Path(name) / f"bert-{size}")
      runner.json_of(
        arguments.peer, "benchmarks.loading", folder, "--only", size
      )
      results.append(compare(folder, arguments.peer, arguments.rounds))
  content = {"machine": platform.platform(), "folders": results}
  runner.write_results(runner.RESULTS / "loading.json", content)
  print_results(results)


def print_results(results: list[dict[str, Any]]) -> None:
  """Prints the table."""
  table = Table(
    "folder",
    "MB",
    "ours s",
    "theirs s",
    "ours/theirs (range)",
    "ours MB/MB",
    "theirs MB/MB",
  )
  for row in results:
    low, high = row["seconds_ours_over_theirs_range"]
    seconds = (
      statistics.median(run["seconds"] for run in row["runs"][name])
      for name in ("ours", "theirs")
    )
    table.add_row(
      pathlib.Path(row["folder"]).name,
      f"{row['weights_bytes'] / 1e6:.0f}",
      *(f"{value:.2f}" for value in seconds),
      f"{row['seconds_ours_over_theirs']:.2f} ({low:.2f}-{high:.2f})",
      f"{row['memory_over_weights_ours']:.2f}",
      f"{row['memory_over_weights_theirs']:.2f}",
    )
  rich.print(table)


if __name__ == "__main__":
  main()
