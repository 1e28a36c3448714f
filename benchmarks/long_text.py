"""Compares a ModernBERT on long texts with Transformers: time and memory.

  ./launch/parity.sh text   # Once, for the environment of the peer.
  python -m benchmarks.long_text [--lengths 1024 2048 4096 8192] [--rounds 2]

One text of each length goes through an encoder of random weights (six layers of
width 384, every third one global, a window of 128), forward and in an update of
masked-language modelling with AdamW. The peer is the same model in PyTorch,
`sdpa` attention, its head on the masked tokens alone. `dense` is ours without
blocks of queries (`models/attention/blocks.py`), up to 4,096 tokens, and 2,048
in updates.

Each measurement is a process of its own, and the processes of a case run in
turn. A process runs once before the clock starts. Memory is the most that the
process held, less what it held with the model loaded and, of ours, compiled; in
updates it includes the state of the optimizer. Ratios are taken per round. The
vectors of all sides are compared too.

Writes benchmarks/results/long_text.json. It takes about ten minutes on two
cores; `--tiny` tests the benchmark and writes no file.
"""

import argparse
import ctypes
import json
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

_ROOT = pathlib.Path(__file__).parents[1]
_PEER = _ROOT / ".venv-parity" / "bin" / "python"
_SIDES = ("ours", "theirs", "dense")
_KINDS = ("forward", "update")
_LENGTHS = (1024, 2048, 4096, 8192)
_MODEL = {
  "vocab_size": 8192,
  "hidden_size": 384,
  "num_hidden_layers": 6,
  "num_attention_heads": 6,
  "intermediate_size": 576,
  "max_position_embeddings": 8192,
}
_TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
_MASKED_SHARE = 0.15
# Without blocks, a forward pass on 8,192 tokens takes minutes and 5 GiB.
_MAX_DENSE = {"forward": 4096, "update": 2048}
_MIB = 2**20


def rows(length: int) -> tuple[np.ndarray, np.ndarray]:
  """The token ids of a text [1, length], and its masked positions."""
  rng = np.random.default_rng(0)
  ids = rng.integers(5, _MODEL["vocab_size"], (1, length))
  count = round(_MASKED_SHARE * length)
  return ids, np.sort(rng.choice(length, count, replace=False))


def make_model(folder: str, tiny: bool) -> None:
  """Saves a model of random weights; in the environment of the peer."""
  import torch
  import transformers

  torch.manual_seed(0)
  sizes = {**_MODEL, **(_TINY if tiny else {})}
  config = transformers.ModernBertConfig(
    **sizes,
    pad_token_id=0,
    cls_token_id=1,
    bos_token_id=1,
    sep_token_id=2,
    eos_token_id=2,
    sparse_prediction=True,
    reference_compile=False,
    attn_implementation="sdpa",
  )
  transformers.ModernBertForMaskedLM(config).save_pretrained(folder)
  print(json.dumps(config.to_dict()))


def theirs(folder: str, kind: str, length: int) -> Callable[[], Any]:
  """What the peer runs."""
  import torch
  import transformers

  torch.set_num_threads(len(os.sched_getaffinity(0)))
  model = transformers.ModernBertForMaskedLM.from_pretrained(
    folder, attn_implementation="sdpa"
  )
  ids, places = rows(length)
  tokens = torch.tensor(ids)
  mask = torch.ones_like(tokens)
  if kind == "forward":
    model.eval()

    def forward() -> np.ndarray:
      with torch.inference_mode():
        return model.model(tokens, mask).last_hidden_state.numpy()

    return forward
  optimizer = torch.optim.AdamW(model.parameters(), 1e-4)
  labels = torch.full_like(tokens, -100)
  labels[0, places] = tokens[0, places]

  def update() -> float:
    optimizer.zero_grad()
    loss = model(tokens, mask, labels=labels).loss
    loss.backward()
    optimizer.step()
    return loss.item()

  return update


def ours(folder: str, kind: str, length: int, dense: bool) -> Callable[[], Any]:
  """What we run, compiled."""
  import jax
  import jax.numpy as jnp
  import optax

  import bert_jax
  from bert_jax.models.attention import blocks
  from bert_jax.models.encoder import Encoder
  from bert_jax.training.train import init_state, make_update
  from bert_jax.types import Batch, TrainState

  if dense:
    blocks.LONG = sys.maxsize
  model = bert_jax.load(folder)
  ids, places = rows(length)
  batch = Batch.from_ids(ids)
  if kind == "forward":
    module, params = Encoder(model.config), {"params": model.params["encoder"]}
    encode = jax.jit(module.apply).lower(params, batch).compile()
    return lambda: np.asarray(encode(params, batch))
  batch.targets["masked_lm/positions"] = places[None].astype(np.int32)
  batch.targets["masked_lm/ids"] = ids[:, places].astype(np.int32)
  batch.targets["masked_lm/weights"] = np.ones((1, len(places)), np.float32)
  optimizer = optax.adamw(1e-4)
  update_fn = jax.jit(make_update(model.task, optimizer), donate_argnums=0)

  def start() -> TrainState:
    params = jax.tree.map(jnp.array, model.params)  # Donated.
    return init_state(params, optimizer, seed=0)

  compiled = update_fn.lower(jax.eval_shape(start), batch).compile()
  state = None

  def update() -> float:
    nonlocal state
    state, means = compiled(state or start(), batch)
    return float(means["mlm_loss"].value())

  return update


def measure(run: Callable[[], Any], steps: int, output: str) -> dict[str, Any]:
  """The seconds of a run, and the memory that it takes, in bytes."""
  ctypes.CDLL(None).malloc_trim(0)  # What loading and compiling freed.
  before = _memory("VmRSS")
  pathlib.Path("/proc/self/clear_refs").write_text("5")  # Resets the peak.
  result = run()
  began = time.perf_counter()
  for _ in range(steps):
    result = run()
  seconds = (time.perf_counter() - began) / steps
  if isinstance(result, np.ndarray):
    np.save(output, result)
    result = None
  return {
    "seconds": seconds,
    "memory": _memory("VmHWM") - before,
    "loss": result,
    "load": os.getloadavg()[0],
  }


def _memory(field: str) -> int:
  for line in pathlib.Path("/proc/self/status").read_text().splitlines():
    name, _, value = line.partition(":")
    if name == field:
      return 1024 * int(value.split()[0])
  raise AssertionError(field)


def _one(arguments: argparse.Namespace) -> None:
  """Measures in this process; imports nothing of ours for the peer."""
  folder, (kind,), (length,) = (
    arguments.folder,
    arguments.kinds,
    arguments.lengths,
  )
  if arguments.only == "theirs":
    run = theirs(folder, kind, length)
  else:
    run = ours(folder, kind, length, arguments.only == "dense")
  print(json.dumps(measure(run, arguments.steps, arguments.output)))


def compare(
  arguments: argparse.Namespace, folder: str, kind: str, length: int
) -> dict[str, Any]:
  """Runs all sides of a case in turn."""
  from benchmarks import runner

  is_dense = length <= _MAX_DENSE[kind]
  sides = [side for side in _SIDES if side != "dense" or is_dense]
  runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
  vectors = {}
  for _ in range(arguments.rounds):
    for side in sides:
      python = arguments.peer_python if side == "theirs" else sys.executable
      output = pathlib.Path(folder) / f"{side}.npy"
      flags = {
        "only": side,
        "folder": folder,
        "kinds": kind,
        "lengths": length,
        "steps": arguments.steps,
        "output": output,
      }
      measured = runner.json_of(
        python,
        "benchmarks.long_text",
        *(f"--{name}={value}" for name, value in flags.items()),
      )
      runs[side].append(measured)
      if kind == "forward":
        vectors[side] = np.load(output)
  result = {"kind": kind, "length": length, "runs": runs}
  if vectors:
    result["difference"] = {
      side: float(np.abs(found - vectors["theirs"]).max())
      for side, found in vectors.items()
    }
  return result


def print_results(results: Mapping[str, Any]) -> None:
  """Prints the table."""
  from rich.table import Table

  from benchmarks import runner

  table = Table(
    "work",
    "tokens",
    "process",
    "s (range)",
    "memory, MiB (range)",
    "time / theirs (range)",
    "memory / theirs (range)",
  )
  for case in results["cases"]:
    for side, own in case["runs"].items():
      columns, ratios = [], []
      for field, unit, form in (
        ("seconds", 1, ".2f"),
        ("memory", _MIB, ",.0f"),
      ):
        columns.append(runner.spread([x[field] / unit for x in own], form))
        pairs = zip(own, case["runs"]["theirs"])
        each = [x[field] / y[field] for x, y in pairs]
        ratios.append("" if side == "theirs" else runner.spread(each, ".2f"))
      length = f"{case['length']:,}"
      table.add_row(case["kind"], length, side, *columns, *ratios)
  runner.print_table(table)
  for case in results["cases"]:
    for side, difference in case.get("difference", {}).items():
      if side != "theirs":
        print(
          f"{case['length']:,} tokens, {side}: vectors differ from theirs by"
          f" {difference:.1e}"
        )


def main() -> None:
  """Measures, prints and writes the results."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("--lengths", nargs="+", type=int, default=_LENGTHS)
  parser.add_argument("--kinds", nargs="+", default=_KINDS, choices=_KINDS)
  parser.add_argument("--rounds", type=int, default=2)
  parser.add_argument("--steps", type=int, default=1, help="timed runs of each")
  parser.add_argument(
    "--peer_python", default=str(_PEER), help="the Python of the peer"
  )
  parser.add_argument(
    "--tiny", action="store_true", help="test with two small layers"
  )
  parser.add_argument(
    "--only", choices=("model", *_SIDES), help="measure in this process"
  )
  parser.add_argument("--folder", help="of the model, with --only")
  parser.add_argument("--output", default=os.devnull)
  if parser.parse_args().tiny:
    parser.set_defaults(lengths=(1024,), rounds=1)
  arguments = parser.parse_args()
  if arguments.only == "model":
    return make_model(arguments.folder, arguments.tiny)
  if arguments.only:
    return _one(arguments)
  from benchmarks import runner  # Not in the environment of the peer.

  runner.check(parser, arguments)
  results: dict[str, Any] = {"machine": runner.machine(), "cases": []}
  with tempfile.TemporaryDirectory() as folder:
    tiny = ["--tiny"] if arguments.tiny else []
    runner.json_of(
      arguments.peer_python,
      "benchmarks.long_text",
      "--only=model",
      f"--folder={folder}",
      *tiny,
    )
    for kind in arguments.kinds:
      for length in arguments.lengths:
        case = compare(arguments, folder, kind, length)
        results["cases"].append(case)
        if not arguments.tiny:
          runner.write_results(runner.RESULTS / "long_text.json", results)
  print_results(results)
  return None


if __name__ == "__main__":
  main()
