"""Measures how fast rows for pretraining are made from a corpus in memory.

  python -m benchmarks.input [--sentences 2000000] [--seconds 5]

Sentences and documents have about the lengths of English Wikipedia. Rates are
non-padding tokens per second of one process, in batches of 256: the median and
the range of several rounds. Packed rows have up to 4 sequences. "Received" is
per second of processor time of the training process: the rate at which it could
receive rows from any number of workers. Writes benchmarks/results/input.json.
"""

import argparse
import dataclasses
import functools
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks import runner
from benchmarks.cases import PREDICTIONS
from bert_jax.data import counter_rng, loader
from bert_jax.data.corpus.shards import Document
from bert_jax.data.pretraining import (
  assembly,
  masking,
  packing,
  pairing,
  planning,
)
from bert_jax.data.pretraining.examples import (
  ExamplesConfig,
  PretrainingExamples,
)
from bert_jax.data.stream import Stream
from bert_jax.text.tokenizer import SpecialIds

_VOCABULARY = 30_522
_SPECIAL = SpecialIds(pad=0, unknown=100, cls=101, sep=102, mask=103)
_BATCH = 256
_SEQUENCES = 4
_ROUNDS = 3
_RESULTS = runner.RESULTS / "input.json"


class SyntheticCorpus:
  """Documents of random ids; pickles only its size."""

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

  def __getitem__(self, index: int) -> Document:
    first, last = self.document_starts[index : index + 2]
    begin = index * 7919 % (len(self._ids) // 2)
    return Document(self._ids[begin:], self.sentence_lengths[first:last])

  def __reduce__(self) -> tuple[object, ...]:
    return SyntheticCorpus, (self._sentences,)


def rate(
  tokens: float,
  work: Callable[[int], object],
  seconds: float,
  clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
  """Tokens per second of a clock, of some a call, by round, ascending."""
  rates, call = [], 0
  for _ in range(_ROUNDS):
    begin, calls = clock(), 0
    while (took := clock() - begin) < seconds / _ROUNDS:
      work(call)
      call, calls = call + 1, calls + 1
    rates.append(tokens * calls / took)
  return sorted(rates)


def measure(
  corpus: SyntheticCorpus, length: int, seconds: float
) -> Iterator[tuple[str, list[float]]]:
  """Non-padding tokens per second by part, in one process."""
  config = ExamplesConfig(
    max_length=length, max_predictions=PREDICTIONS[length]
  )

  def plan(epoch: int) -> planning.Plan:
    return planning.make_plan(
      corpus,
      max_tokens=config.max_tokens,
      short_probability=config.short_probability,
      pairs=config.next_sentence,
      seed=0,
      epoch=epoch,
    )

  planned = plan(0)
  special = length - config.max_tokens
  lengths = planned.tokens + np.uint16(special)
  total = float(lengths.sum())
  yield "plan", rate(total, plan, seconds)

  def pack(call: int) -> packing.Packing:
    rng = np.random.default_rng(call)
    return packing.pack(lengths, length, _SEQUENCES, rng)

  name = f"pack (efficiency {pack(0).efficiency:.1%})"
  yield name, rate(total, pack, seconds)

  yield from measure_parts(corpus, planned, config, seconds)
  for most in (1, _SEQUENCES):
    examples = PretrainingExamples(
      corpus,
      _SPECIAL,
      _VOCABULARY,
      np.zeros(_VOCABULARY, bool),
      dataclasses.replace(config, max_sequences=most),
      seed=0,
    )
    kind = "packed rows" if most > 1 else "rows"
    yield from measure_rows(kind, examples, seconds)


def measure_parts(
  corpus: SyntheticCorpus,
  planned: planning.Plan,
  config: ExamplesConfig,
  seconds: float,
) -> Iterator[tuple[str, list[float]]]:
  """Non-padding tokens per second of the steps from a plan to examples."""
  lengths = planned.tokens + np.uint16(config.max_length - config.max_tokens)
  # Examples from all over the corpus, as in batches.
  rng = np.random.default_rng(0)
  chosen = [rng.integers(0, len(lengths), _BATCH) for _ in range(16)]
  tokens = float(np.mean([lengths[examples].sum() for examples in chosen]))
  key = counter_rng.key(0)

  def pair(call: int) -> pairing.Pairs:
    return pairing.make_pairs(
      corpus, planned, chosen[call % 16], max_tokens=config.max_tokens, key=key
    )

  yield "pairs", rate(tokens, pair, seconds)
  sequences = assembly.join(pair(0), _SPECIAL, has_next=True)
  continuations = np.arange(_VOCABULARY) % 4 == 0
  for name, groups in (("mask", None), ("mask whole words", continuations)):
    rules = masking.Masking(
      _SPECIAL, _VOCABULARY, groups, config.max_predictions, 0.15, 0.8, 0.1
    )
    mask = functools.partial(
      masking.mask,
      sequences.token_ids,
      sequences.lengths,
      chosen[0],
      rules,
      key,
    )
    own = len(sequences.token_ids)
    yield name, rate(own, lambda _, f=mask: f(), seconds)


def measure_rows(
  kind: str, examples: PretrainingExamples, seconds: float
) -> Iterator[tuple[str, list[float]]]:
  """Non-padding tokens per second of rows, without and with the loader."""
  stream = Stream(examples, _BATCH, seed=0)
  tokens = np.mean(
    [(stream.batch(i, range(_BATCH)).sequence_ids > 0).sum() for i in range(8)]
  )
  yield kind, rate(tokens, lambda i: stream.batch(i, range(_BATCH)), seconds)
  for workers in (0, 2):
    with loader.training_batches(stream, workers=workers) as batches:
      for _ in range(8):  # Workers start, and buffers fill.
        next(batches)
      receive = functools.partial(lambda b, _: next(b), batches)
      yield f"{kind}, {workers} workers", rate(tokens, receive, seconds)
      if workers:
        values = rate(tokens, receive, seconds / 3, time.process_time)
        yield f"{kind}, received", values


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
  parser.add_argument("--sentences", type=int, default=2_000_000)
  parser.add_argument(
    "--seconds", type=float, default=5.0, help="per measurement"
  )
  arguments = parser.parse_args()
  corpus = SyntheticCorpus(arguments.sentences)
  sentences = len(corpus.sentence_lengths)
  print(
    f"{sentences:,} sentences, {len(corpus):,} documents,"
    f" {corpus.sentence_lengths.sum():,} tokens; {os.cpu_count()} cores"
  )
  print(f"{'length':>6}  {'part':<22} {'non-padding tokens/s':>15} range")
  rows = []
  for length in PREDICTIONS:
    for part, rates in measure(corpus, length, arguments.seconds):
      print(
        f"{length:6}  {part:<22} {statistics.median(rates):15,.0f}"
        f" {rates[0]:,.0f} - {rates[-1]:,.0f}",
        flush=True,
      )
      rows.append(
        {"length": length, "part": part, "non_padding_tokens_per_second": rates}
      )
  machine = {"processor": platform.processor(), "cores": os.cpu_count()}
  content = {"machine": machine, "sentences": sentences, "rows": rows}
  runner.write_results(_RESULTS, content)
  print(f"written to {_RESULTS}")


if __name__ == "__main__":
  main()
