"""Compares writing text with Transformers, and with encoding rows anew.

  ./launch/peers.sh   # Once, for the environment of PyTorch.
  python -m benchmarks.generation [FOLDER] [--rounds 5] [--threads 2]

FOLDER is a BERT with a masked-language-modeling head, which `bert_jax.load`
takes; by default MiniLM's architecture with random weights. All engines write
64 tokens after random prompts of 32, causally (each token attends to itself and
earlier tokens): `generate` of Transformers' `BertLMHeadModel` with its cache
and scaled dot-product attention; `models.decoding`; and `anew`, which chooses
tokens like the latter, but for each of them encodes the whole row, rounded up
to a multiple of 32 tokens.

Each engine has a process of its own, on the same cores, and computes in turn
with the others. Time is wall time. A ratio is the time of an engine over ours
in the same round. `equal` is the share of tokens that are those of
Transformers.

Writes benchmarks/results/generation.json. `--tiny` only tests the benchmark
itself.
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

CASES = {
  "greedy, 1 row": (1, 1),
  "greedy, 8 rows": (8, 1),
  "4 beams, 1 row": (1, 4),
  "4 beams, 8 rows": (8, 4),
}
"""Rows and beams, by name."""
ENGINES = ("ours", "torch", "anew")
LENGTH = 64
"""Tokens that are written."""

_PROMPT = _STEP = 32
_FIRST, _LAST = 1000, 6000  # Ids of prompts.
_AIMS = {"anew": 5.0, "torch": 1.5}

Run = Callable[[np.ndarray], np.ndarray]
"""From the ids of prompts to those written, int32 [rows, LENGTH]."""


def torch(folder: pathlib.Path, threads: int, beams: int) -> Run:
  import torch
  import transformers

  torch.set_num_threads(threads)
  model = transformers.BertLMHeadModel.from_pretrained(
    folder, is_decoder=True, attn_implementation="sdpa"
  ).eval()
  special = _special(folder)

  def run(ids: np.ndarray) -> np.ndarray:
    prompt = torch.from_numpy(ids).long()
    with torch.inference_mode():
      written = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=LENGTH,
        min_new_tokens=LENGTH - 1,
        num_beams=beams,
        do_sample=False,
        length_penalty=0.0,
        eos_token_id=special["sep"],
        pad_token_id=special["pad"],
        suppress_tokens=[id for k, id in special.items() if k != "sep"],
      )
    return written[:, _PROMPT:].numpy()

  return run


def ours(folder: pathlib.Path, beams: int, anew: bool) -> Run:
  import jax

  import bert_jax
  from bert_jax.models import decoding
  from bert_jax.models.generation import GenerationConfig
  from bert_jax.text.tokenizer import SpecialIds

  model = bert_jax.load(folder)
  special = SpecialIds(**_special(folder))
  options = GenerationConfig(
    max_new_tokens=LENGTH,
    min_new_tokens=LENGTH - 1,
    num_beams=beams,
    length_penalty=0.0,
  )
  decoder = decoding.Decoder(model.config, special, options, LENGTH, segment=0)
  params = jax.device_put(model.params)
  write = jax.jit(_write_anew(decoder, model.config) if anew else decoder)

  def run(ids: np.ndarray) -> np.ndarray:
    written = np.asarray(write(params, _batch(ids)).ids[:, 0])
    return np.where(written == special.pad, special.sep, written)

  return run


def _batch(ids: np.ndarray) -> Any:
  """A batch of prompts, in which each token attends to those before."""
  import dataclasses

  from bert_jax.batch import Batch

  batch = Batch.from_ids(ids)
  return dataclasses.replace(batch, stage_ids=batch.position_ids)


def _write_anew(decoder: Any, config: Any) -> Callable[..., Any]:
  """Writes with the same choice of tokens, but keeps no keys."""
  import jax
  import jax.numpy as jnp

  from bert_jax.batch import Batch
  from bert_jax.models.encoder import Encoder

  encoder = Encoder(config)

  def write(params, batch):
    source, state = decoder.start(params, batch)
    state = state._replace(keys=())
    count = len(state.ids) // len(batch.token_ids)
    prompt = batch.token_ids.repeat(count, axis=0)

    for width in range(_STEP, LENGTH + 1, _STEP):

      def step(state, width=width):
        ids = jnp.concatenate([prompt, state.ids[:, :width]], axis=1)
        place = jnp.broadcast_to(jnp.arange(ids.shape[1]), ids.shape)
        last = _PROMPT + state.index - 1
        used = (place <= last).astype(jnp.int32)
        row = Batch(ids, 0 * ids, place, used, stage_ids=place)
        hidden = encoder.apply({"params": params["encoder"]}, row)
        hidden = jax.lax.dynamic_slice_in_dim(hidden, last, 1, axis=1)
        logits = decoder.logits(params, source, hidden)
        return decoder.choose(source, state, logits)

      most = min(width + 1, LENGTH)
      state = jax.lax.while_loop(
        lambda state, most=most: state.index < most, step, state
      )
    return decoder.finish(state)

  return write


def _special(folder: pathlib.Path) -> dict[str, int]:
  """The ids of special tokens, by their names in `SpecialIds`."""
  lines = (folder / "vocab.txt").read_text().splitlines()
  names = {
    "pad": "[PAD]",
    "unknown": "[UNK]",
    "cls": "[CLS]",
    "sep": "[SEP]",
    "mask": "[MASK]",
  }
  return {name: lines.index(token) for name, token in names.items()}


def work(engine: str, folder: pathlib.Path, threads: int) -> None:
  """Computes the cases that are named on lines of the standard input."""
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
  runs: dict[int, Run] = {}
  warm = set()
  for line in sys.stdin:
    case = line.strip()
    rows, beams = CASES[case]
    if beams not in runs:
      runs[beams] = (
        torch(folder, threads, beams)
        if engine == "torch"
        else ours(folder, beams, engine == "anew")
      )
    ids = np.random.default_rng(0).integers(_FIRST, _LAST, (rows, _PROMPT))
    if case not in warm:
      runs[beams](ids)  # Compiles.
      warm.add(case)
    began = time.perf_counter()
    written = runs[beams](ids)
    found = {
      "seconds": time.perf_counter() - began,
      "written": written.tolist(),
    }
    print(json.dumps(found), flush=True)


def measure(
  arguments: argparse.Namespace, folder: pathlib.Path
) -> dict[str, Any]:
  """The rounds of each case and engine, in seconds."""
  found: dict[str, Any] = {}
  with workers.running(
    "benchmarks.generation",
    folder,
    arguments.engines,
    ["torch"],
    arguments.peer_python,
    arguments.threads,
  ) as running:
    for case in arguments.cases:
      answers = workers.answers(running, case, arguments.rounds)
      written = {
        engine: np.array(own[-1]["written"])
        for engine, own in answers.items()
        if own
      }
      found[case] = {
        "seconds": {
          engine: [answer["seconds"] for answer in own]
          for engine, own in answers.items()
        },
        "equal": {
          engine: float((ids == written["torch"]).mean())
          for engine, ids in written.items()
          if "torch" in written
        },
      }
  return found


def print_results(results: Mapping[str, Any]) -> None:
  """Prints a table of all cases, as Markdown."""
  from rich.table import Table

  from benchmarks import runner

  table = Table("case", "engine", "ms a token", "it / ours (range)", "equal")
  for case, found in results["cases"].items():
    for engine, seconds in found["seconds"].items():
      ratios = against_ours(found["seconds"], engine)
      table.add_row(
        case,
        engine,
        runner.spread([1e3 * x / LENGTH for x in seconds], ".2f"),
        runner.spread(ratios, ".2f") if engine != "ours" else "-",
        f"{found['equal'].get(engine, float('nan')):.0%}",
      )
  runner.print_table(table)
  for case, found in results["cases"].items():
    print(f"{case}: {verdict(found['seconds'])}")


def against_ours(
  seconds: Mapping[str, Sequence[float]], engine: str
) -> list[float]:
  """The times of an engine over ours, by round."""
  pairs = zip(seconds[engine], seconds.get("ours", []))
  return [theirs / own for theirs, own in pairs]


def verdict(seconds: Mapping[str, Sequence[float]]) -> str:
  """Our speed compared with the aims, in one line."""
  parts = []
  for engine, aim in _AIMS.items():
    if ratios := against_ours(seconds, engine) if engine in seconds else []:
      ratio = statistics.median(ratios)
      word = "reached" if ratio >= aim else "missed"
      parts.append(f"{ratio:.2f} times as fast as {engine} ({aim:g}: {word})")
  return ", ".join(parts) or "nothing to compare"


def main() -> None:
  parser = workers.parser(
    __doc__, ENGINES, ".venv-peers", rounds=5, threads=os.cpu_count()
  )
  parser.add_argument(
    "--cases", nargs="+", default=list(CASES), choices=CASES, metavar="CASE"
  )
  arguments = parser.parse_args()
  if arguments.engine:
    work(arguments.engine, pathlib.Path(arguments.folder), arguments.threads)
    return
  import bert_jax
  from benchmarks import runner
  from bert_jax.tasks import MASKED_LM

  with tempfile.TemporaryDirectory() as scratch:
    folder = pathlib.Path(scratch) / "model"
    given = arguments.folder
    model = (
      bert_jax.load(given)
      if given
      else random_models.minilm(MASKED_LM, tiny=arguments.tiny)
    )
    bert_jax.save(model, folder)
    results = {
      "machine": runner.machine(),
      "arguments": vars(arguments),
      "cases": measure(arguments, folder),
    }
  runner.write_unless_tiny("generation", results)
  print_results(results)


if __name__ == "__main__":
  main()
