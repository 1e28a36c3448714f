"""Compares the time and memory of preparing a corpus with `tokenizers`.

  python -m benchmarks.prepare [--megabytes 20 100] [--memory 100 1000]

The text is the documentation of the installed packages, one sentence per line,
repeated with its sentences shuffled and new words inserted.

- For each size in `--megabytes`: `write_shard` in all processes, from the text
  file to shards, compared with `encode_batch_fast` of `tokenizers` on the same
  sentences in memory with as many threads; in alternating rounds, so that the
  load of the machine affects both.
- For each size in `--memory`: all of `prepare`, with the vocabulary, and the
  peak memory of the parent and of the largest child.
- The vocabulary trainer, compared with that of `tokenizers`.

Writes benchmarks/results/prepare.json.
"""

import argparse
import concurrent.futures
import multiprocessing
import os
import pathlib
import platform
import random
import re
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import rich
import tokenizers
from rich.table import Table
from tokenizers import models, trainers

from benchmarks import runner
from bert_jax import text
from bert_jax.data import sources
from bert_jax.data.corpus import build, sentences, tokenization, workers
from bert_jax.data.sources import installed_docs
from bert_jax.text import basic_tokenizer, wordpiece, wordpiece_trainer

_ROUNDS = 3
_BARE_BATCH = 10_000
_TRAINER_MEGABYTES = 15
_RESULTS = runner.RESULTS / "prepare.json"


def write_text(
  documents: list[list[str]], path: pathlib.Path, size: int
) -> None:
  """Writes about `size` bytes of distinct documents."""
  order = random.Random(0)
  written = 0
  with path.open("w", encoding="utf-8") as file:
    while written < size:
      for document in documents:
        new = "".join(order.choices("abcdefghijklmnopqrstuvwxyz", k=6))
        lines = [
          f"{new} {line}" if order.random() < 0.1 else line
          for line in order.sample(document, len(document))
        ]
        written += file.write("\n".join(lines) + "\n\n")
        if written >= size:
          break


def _read(path: str) -> str:
  try:
    return pathlib.Path(f"/proc/{path}").read_text()
  except OSError:
    return ""  # The process has ended.


def _peak(pid: int | str) -> int:
  """The peak resident memory of a process, in bytes."""
  found = re.search(r"VmHWM:\s+(\d+) kB", _read(f"{pid}/status"))
  return int(found[1]) * 1024 if found else 0


def watch_memory(pid: int, stop: threading.Event) -> Iterator[tuple[int, int]]:
  """Yields the peak memory of a process, and the largest of its children."""
  while not stop.wait(0.05):
    children = _read(f"{pid}/task/{pid}/children").split()
    yield _peak(pid), max(map(_peak, children), default=0)


def measure_prepare(
  config: build.CorpusConfig, output: pathlib.Path, processes: int
) -> dict[str, Any]:
  """The time and memory of `prepare` in a new process."""
  stop = threading.Event()
  peaks: list[tuple[int, int]] = []
  with concurrent.futures.ProcessPoolExecutor(
    1, multiprocessing.get_context("spawn")
  ) as executor:
    pid = executor.submit(os.getpid).result()
    watcher = threading.Thread(
      target=lambda: peaks.extend(watch_memory(pid, stop))
    )
    watcher.start()
    start = time.perf_counter()
    executor.submit(build.prepare, config, output, processes).result()
    seconds = time.perf_counter() - start
    stop.set()
    watcher.join()
  parent, child = map(max, zip(*peaks))
  return {
    "seconds": seconds,
    "parent_megabytes": parent / 1e6,
    "child_megabytes": child / 1e6,
  }


def _seconds(function: Callable[[], Any]) -> float:
  start = time.perf_counter()
  function()
  return time.perf_counter() - start


def measure_tokenizing(
  config: build.CorpusConfig, prepared: pathlib.Path, processes: int
) -> dict[str, Any]:
  """From text to shards, and encoding alone, in alternating rounds."""
  backend = tokenizers.Tokenizer.from_file(str(prepared / "tokenizer.json"))
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    source = sources.open_source(config, folder)
    lines = [
      line
      for index in range(len(source))
      for line in sentences.lines(source[index]["text"])
    ]
    job = tokenization.Job(
      source, config.sentences, folder, folder, config.shards, 0
    )
    tokenizer = text.load(prepared)
    tasks = [(job, shard, tokenizer) for shard in range(config.shards)]

    def ours() -> None:
      for _ in workers.run(tokenization.write_shard, tasks, processes):
        pass

    def bare() -> None:
      for start in range(0, len(lines), _BARE_BATCH):
        backend.encode_batch_fast(
          lines[start : start + _BARE_BATCH], add_special_tokens=False
        )

    rounds = [(_seconds(ours), _seconds(bare)) for _ in range(_ROUNDS)]
  ratios = sorted(bare / ours for ours, bare in rounds)
  return {
    "rounds_ours_bare_seconds": rounds,
    "bare_over_ours": statistics.median(ratios),
    "bare_over_ours_range": [ratios[0], ratios[-1]],
  }


def measure_trainer(lines: list[str], size: int) -> dict[str, float]:
  """Trains a vocabulary: ours with one thread, `tokenizers` with all."""
  rules = basic_tokenizer.WordRules()

  def ours() -> None:
    wordpiece_trainer.train(wordpiece_trainer.count_words(lines, rules), size)

  def theirs() -> None:
    backend = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = basic_tokenizer.normalizer(rules)
    backend.pre_tokenizer = basic_tokenizer.pre_tokenizer(rules)
    trainer = trainers.WordPieceTrainer(
      vocab_size=size,
      min_frequency=2,
      show_progress=False,
      special_tokens=list(wordpiece.SPECIAL_TOKENS),
    )
    backend.train_from_iterator(lines, trainer)

  rounds = [(_seconds(ours), _seconds(theirs)) for _ in range(_ROUNDS)]
  mine, others = map(statistics.median, zip(*rounds))
  return {
    "vocab_size": size,
    "ours_seconds": mine,
    "tokenizers_seconds": others,
    "ours_over_tokenizers": mine / others,
  }


def main() -> None:
  """Measures, prints and writes the results."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--megabytes", type=int, nargs="*", default=[20, 100])
  parser.add_argument("--memory", type=int, nargs="*", default=[100])
  parser.add_argument(
    "--processes", type=int, default=workers.available_cores()
  )
  arguments = parser.parse_args()
  os.environ["RAYON_NUM_THREADS"] = str(arguments.processes)
  results: dict[str, Any] = {
    "machine": platform.platform(),
    "processes": arguments.processes,
    "tokenizing": {},
    "memory": {},
  }
  with tempfile.TemporaryDirectory() as name:
    folder = pathlib.Path(name)
    records = installed_docs.open_source(folder, arguments.processes)
    documents = [sentences.prose(record["text"]) for record in records]
    path = folder / "text.txt"
    for megabytes in sorted({*arguments.megabytes, *arguments.memory}):
      write_text(documents, path, megabytes * 1_000_000)
      config = build.CorpusConfig(
        "text_files", (str(path),), sentences="line", eval_fraction=0.0
      )
      output = folder / str(megabytes)
      whole = measure_prepare(config, output, arguments.processes)
      if megabytes in arguments.memory:
        results["memory"][megabytes] = whole
      if megabytes in arguments.megabytes:
        results["tokenizing"][megabytes] = measure_tokenizing(
          config, output, arguments.processes
        )
      shutil.rmtree(output)
  lines = [line for document in documents for line in document]
  share = sum(map(len, lines)) / (_TRAINER_MEGABYTES * 1_000_000)
  lines = (lines * 3)[: int(len(lines) / share)]
  results["trainer"] = [measure_trainer(lines, n) for n in (8192, 30522)]
  runner.write_results(_RESULTS, results)
  print_results(results)


def print_results(results: dict[str, Any]) -> None:
  """Prints the tables."""
  table = Table("MB", "ours MB/s", "bare MB/s", "bare/ours time (range)")
  for size, row in results["tokenizing"].items():
    ours, bare = map(statistics.median, zip(*row["rounds_ours_bare_seconds"]))
    low, high = row["bare_over_ours_range"]
    table.add_row(
      str(size),
      f"{size / ours:.2f}",
      f"{size / bare:.2f}",
      f"{row['bare_over_ours']:.2f} ({low:.2f}-{high:.2f})",
    )
  rich.print(table)
  whole = Table("MB", "prepare s", "peak parent MB", "peak child MB")
  for size, row in results["memory"].items():
    figures = (row["seconds"], row["parent_megabytes"], row["child_megabytes"])
    whole.add_row(str(size), *(f"{value:.0f}" for value in figures))
  rich.print(whole)
  trained = Table("vocabulary", "ours s", "tokenizers s", "ratio")
  for row in results["trainer"]:
    trained.add_row(*(f"{value:.2f}" for value in row.values()))
  rich.print(trained)


if __name__ == "__main__":
  main()
