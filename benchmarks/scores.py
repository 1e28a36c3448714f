"""Compares scores of sentences with those of minicons.

  python -m venv .venv-minicons && .venv-minicons/bin/pip install minicons
  python -m benchmarks.scores --text FILE [FOLDER] [--sentences 256]

FILE has a sentence a line, and may be gzipped. FOLDER is what `bert_jax.load`
takes; by default BERT with the sizes of MiniLM (6 layers of 384) and random
weights, whose 30,522 tokens are a WordPiece vocabulary of the text and others
that are never used.

Each implementation has a process of its own, on the same cores, and scores all
sentences in turn with the others: `ours` in one call; `ours-one` with a call
for each sentence; `minicons-N` with N sentences a call, each by
`MaskedLMScorer.sequence_score`. The score is the sum of log-probabilities by
`within_word_l2r`. A ratio is of the sentences per second of the same round. All
warm up by one round before the clock starts.

Writes benchmarks/results/scores.json. `--tiny` only tests the benchmark itself.
"""

import argparse
import gzip
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

OURS = "ours"
PEERS = ("minicons-1", "minicons-8", "minicons-32")
ENGINES = (OURS, "ours-one", *PEERS)

_LEARNED = 8_000

Score = Callable[[Sequence[str]], Sequence[float]]


def ours(engine: str, folder: pathlib.Path) -> Score:
  from launch import process

  process.keep_memory()  # As a command does.
  import bert_jax

  model = bert_jax.load(folder)
  if engine == OURS:
    return lambda texts: [found.score for found in model.score(texts)]
  return lambda texts: [model.score(text).score for text in texts]


def minicons(size: int, folder: pathlib.Path, threads: int) -> Score:
  import torch
  from minicons import scorer

  torch.set_num_threads(threads)
  model = scorer.MaskedLMScorer(
    str(folder), "cpu", PLL_metric="within_word_l2r"
  )

  def total(x: Any) -> float:
    return x.sum().item()

  def score(texts: Sequence[str]) -> list[float]:
    found: list[float] = []
    for start in range(0, len(texts), size):
      part = list(texts[start : start + size])
      found += model.sequence_score(
        part, reduction=total, PLL_metric="within_word_l2r"
      )
    return found

  return score


def work(engine: str, folder: pathlib.Path, threads: int) -> None:
  """Scores the sentences of `sentences.json` once for each line of stdin."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
  texts = json.loads((folder / "sentences.json").read_text())
  _name, _, size = engine.partition("-")
  model = folder / "model"
  score = (
    minicons(int(size), model, threads)
    if size.isdecimal()
    else ours(engine, model)
  )
  score(texts)
  for _ in sys.stdin:
    began = time.perf_counter()
    scores = score(texts)
    seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "scores": scores}), flush=True)


def read(path: str, count: int) -> list[str]:
  """The first sentences of a file, blank lines left out."""
  open_text = gzip.open if path.endswith(".gz") else open
  with open_text(path, "rt", encoding="utf-8") as file:
    lines = [line.strip() for line in file]
  return [line for line in lines if line][:count]


def random_model(texts: Sequence[str], tiny: bool) -> Any:
  """A MiniLM with random weights, whose vocabulary is learned from texts."""
  from bert_jax.tasks import MASKED_LM
  from bert_jax.text import wordpiece_trainer

  counts = wordpiece_trainer.count_words(texts)
  tokens = wordpiece_trainer.train(counts, _LEARNED)
  return random_models.minilm(MASKED_LM, tokens, tiny)


def measure(
  arguments: argparse.Namespace, folder: pathlib.Path, count: int
) -> dict[str, Any]:
  """The sentences per second of each round, and the scores."""
  with workers.running(
    "benchmarks.scores",
    folder,
    arguments.engines,
    PEERS,
    arguments.peer_python,
    arguments.threads,
  ) as running:
    answers = workers.answers(running, "all", arguments.rounds)
  return {
    engine: {
      "rates": [count / answer["seconds"] for answer in own],
      "scores": own[-1]["scores"],
    }
    for engine, own in answers.items()
    if own
  }


def print_results(found: Mapping[str, Any]) -> None:
  """Prints the table, as Markdown."""
  from rich.table import Table

  from benchmarks import runner

  table = Table("", "sentences/s (range)", "ours / it (range)", "difference")
  own = found.get(OURS)
  for engine, result in found.items():
    ratios, difference = [], "-"
    if own is not None and engine != OURS:
      ratios = [x / y for x, y in zip(own["rates"], result["rates"])]
      gap = np.subtract(own["scores"], result["scores"])
      difference = f"{np.abs(gap).max():.1g}"
    table.add_row(
      engine,
      runner.spread(result["rates"], ",.1f"),
      runner.spread(ratios, ".2f") if ratios else "-",
      difference,
    )
  runner.print_table(table)
  print(verdict({engine: x["rates"] for engine, x in found.items()}))


def verdict(rates: Mapping[str, Sequence[float]]) -> str:
  """Compares ours with the fastest of minicons, in one line."""
  peers = {name: x for name, x in rates.items() if not name.startswith(OURS)}
  if OURS not in rates or not peers:
    return "nothing to compare"
  best = max(peers, key=lambda name: statistics.median(peers[name]))
  ratio = statistics.median(x / y for x, y in zip(rates[OURS], peers[best]))
  return f"ours scores {ratio:.2f} times the sentences per second of {best}"


def main() -> None:
  threads = len(os.sched_getaffinity(0))
  parser = workers.parser(
    __doc__, ENGINES, ".venv-minicons", rounds=5, threads=threads
  )
  parser.add_argument("--text", default="")
  parser.add_argument("--sentences", type=int, default=256)
  arguments = parser.parse_args()
  if arguments.engine:
    work(arguments.engine, pathlib.Path(arguments.folder), arguments.threads)
    return
  if not arguments.text:
    parser.error("--text: name a file with a sentence a line")
  import bert_jax
  from benchmarks import runner

  texts = read(arguments.text, arguments.sentences)
  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch)
    given = arguments.folder
    model = (
      bert_jax.load(given, "masked_lm")
      if given
      else random_model(read(arguments.text, 20_000), arguments.tiny)
    )
    bert_jax.save(model, folder / "model")
    (folder / "sentences.json").write_text(json.dumps(texts))
    found = measure(arguments, folder, len(texts))
  results = {
    "machine": runner.machine(),
    "arguments": vars(arguments),
    "engines": found,
  }
  runner.write_unless_tiny("scores", results)
  print_results(found)


if __name__ == "__main__":
  main()
