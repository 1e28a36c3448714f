"""How fast pretraining examples are made from a corpus in memory.

  python -m benchmarks.input [--sentences 2000000] [--seconds 5]

Sentences and documents have about the lengths of English Wikipedia's. The
loader's figures are for batches of 256 rows; each measurement is repeated,
and the middle one is given with the range. Writes
benchmarks/results/input.json.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Int32

from bert_jax.data import loader, masking, pairing
from bert_jax.data.examples import ExamplesConfig, PretrainingExamples
from bert_jax.text.tokenizer import SpecialIds

_VOCABULARY = 30_522
_SPECIAL = SpecialIds(pad=0, unknown=100, cls=101, sep=102, mask=103)
_BATCH = 256
_ROUNDS = 3
_PREDICTIONS = {128: 20, 512: 76}
_RESULTS = pathlib.Path(__file__).parent / "results" / "input.json"


class SyntheticCorpus:
  """Documents of random ids; it pickles as its size."""

  def __init__(self, sentences: int):
    self._sentences = sentences
    rng = np.random.default_rng(0)
    sizes = np.clip(rng.lognormal(2.4, 1.1, sentences // 18), 1, 5000)
    sizes = sizes.astype(np.int64)
    self.document_starts = np.concatenate([[0], np.cumsum(sizes)])
    lengths = rng.lognormal(3.0, 0.6, self.document_starts[-1])
    self.sentence_lengths = np.clip(lengths, 1, 400).astype(np.uint32)
    self._ids = rng.integers(1000, _VOCABULARY, 1 << 22, dtype=np.int32)

  def __len__(self) -> int:
    return len(self.document_starts) - 1

  def __getitem__(self, index: int) -> Sequence[Int32[np.ndarray, "tokens"]]:
    first, last = self.document_starts[index : index + 2]
    begin = index * 7919 % (len(self._ids) // 2)
    document = []
    for length in self.sentence_lengths[first:last].tolist():
      document.append(self._ids[begin : begin + length])
      begin += length
    return document

  def __reduce__(self) -> tuple[object, ...]:
    return SyntheticCorpus, (self._sentences,)


def rate(work: Callable[[int], object], seconds: float) -> list[float]:
  """Calls of `work` a second, ascending, in `_ROUNDS` rounds."""
  rates, call = [], 0
  for _ in range(_ROUNDS):
    begin, calls = time.perf_counter(), 0
    while (took := time.perf_counter() - begin) < seconds / _ROUNDS:
      work(call)
      call, calls = call + 1, calls + 1
    rates.append(calls / took)
  return sorted(rates)


def measure(
  corpus: SyntheticCorpus, length: int, seconds: float
) -> Iterator[tuple[str, list[float]]]:
  """Examples a second by part, for rows of `length` tokens."""
  config = ExamplesConfig(length=length, max_predictions=_PREDICTIONS[length])
  continuations = np.arange(_VOCABULARY) % 4 == 0
  options = {"max_tokens": length - 3, "pairs": True}

  def plan(epoch: int) -> pairing.Plan:
    return pairing.make_plan(
      corpus, **options, short_probability=0.1, seed=0, epoch=epoch
    )

  planned = plan(0)
  count = len(planned.first)
  yield "plan", [count * value for value in rate(plan, seconds)]

  rng = np.random.default_rng(0)
  scattered = rng.permutation(count)
  yield (
    "pair",
    rate(
      lambda i: pairing.make_pair(
        corpus, planned, scattered[i % count], rng=rng, **options
      ),
      seconds,
    ),
  )

  row = rng.integers(1000, _VOCABULARY, length, dtype=np.int32)
  for name, groups in (("mask", None), ("mask whole words", continuations)):
    rules = masking.Masking(
      _SPECIAL, _VOCABULARY, groups, _PREDICTIONS[length], 0.15, 0.8, 0.1
    )
    yield name, rate(lambda _, r=rules: masking.mask(row, r, rng), seconds)

  examples = PretrainingExamples(
    corpus, _SPECIAL, _VOCABULARY, continuations, config, seed=0
  )
  examples.epoch_length(0)
  yield (
    "example",
    rate(lambda i: examples.example(0, scattered[i % count]), seconds),
  )
  for workers in (0, 2):
    stream = loader.Stream(examples, _BATCH, seed=0)
    with loader.training_batches(stream, workers=workers) as batches:
      for _ in range(8):  # past the start of the workers and full buffers
        next(batches)
      values = rate(lambda _, b=batches: next(b), seconds)
    yield f"loader, {workers} workers", [_BATCH * value for value in values]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
  parser.add_argument("--sentences", type=int, default=2_000_000)
  parser.add_argument("--seconds", type=float, default=5.0, help="a figure")
  arguments = parser.parse_args()
  corpus = SyntheticCorpus(arguments.sentences)
  sentences = len(corpus.sentence_lengths)
  print(
    f"{sentences:,} sentences, {len(corpus):,} documents,"
    f" {corpus.sentence_lengths.sum():,} tokens; {os.cpu_count()} cores"
  )
  print(
    f"{'length':>6}  {'part':<18} {'examples/s':>12} {'tokens/s':>14} range"
  )
  rows = []
  for length in _PREDICTIONS:
    for part, rates in measure(corpus, length, arguments.seconds):
      middle = statistics.median(rates)
      print(
        f"{length:6}  {part:<18} {middle:12,.0f} {middle * length:14,.0f}"
        f" {rates[0]:,.0f} - {rates[-1]:,.0f}",
        flush=True,
      )
      rows.append({"length": length, "part": part, "examples_per_s": rates})
  _RESULTS.parent.mkdir(exist_ok=True)
  machine = {"processor": platform.processor(), "cores": os.cpu_count()}
  content = {"machine": machine, "sentences": sentences, "rows": rows}
  _RESULTS.write_text(json.dumps(content, indent=2) + "\n")
  print(f"written to {_RESULTS}")


if __name__ == "__main__":
  main()
