"""Compares the time to the first answer of a new process with a peer's.

  ./launch/parity.sh text   # Once, for the environment of the peer.
  python -m benchmarks.first_answer FOLDER

FOLDER is a model for embeddings in the Hugging Face format, such as MiniLM. A
process imports, loads the model, embeds and ends: one sentence, by
`launch.predict`, and 100 texts of 1 to 250 words, by the Python API. The peer
is sentence-transformers, in a script. Ours runs with an empty compilation
cache, and again with what that run kept.

The processes run in turn, so that the load of the machine affects all of them.
Besides the wall time, the table has the processor time, which depends less on
the load; ratios are taken per round. The vectors are compared too.

Writes benchmarks/results/first_answer.json.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

_ROOT = pathlib.Path(__file__).parents[1]
_PEER = _ROOT / ".venv-parity" / "bin" / "python"
_SENTENCE = "The committee approved the new budget on Tuesday afternoon."
_WORDS = (
  "the cat sat on a mat while rain fell over quiet green hills and people"
  " walked home talking about books they had read in the long winter"
)
_TEXTS = 100
_LONGEST = 250
_CASES = ("sentence", "texts")
_SIDES = ("first", "again", "theirs")


def texts() -> list[str]:
  """Texts of mixed lengths, half of them of fewer than 25 words."""
  rng, words = random.Random(0), _WORDS.split()
  counts = [1 + int(rng.lognormvariate(3, 1)) for _ in range(_TEXTS)]
  return [" ".join(rng.choices(words, k=min(n, _LONGEST))) for n in counts]


def answer(side: str, folder: str, case: str, output: str) -> None:
  """Embeds in this process; imports nothing else of ours for the peer."""
  given = [_SENTENCE] if case == "sentence" else texts()
  if side == "theirs":
    import sentence_transformers

    found = sentence_transformers.SentenceTransformer(folder).encode(given)
  else:
    import bert_jax

    found = bert_jax.load(folder).embed(given)
  found.astype("float32").tofile(output)


def _command(
  side: str, case: str, folder: str, peer: str, output: pathlib.Path
) -> list[str]:
  if side != "theirs" and case == "sentence":
    flags = (f"--model={folder}", "--task=embedding", f"--text={_SENTENCE}")
    return [sys.executable, "-m", "launch.predict", *flags]
  python = peer if side == "theirs" else sys.executable
  module = (python, "-m", "benchmarks.first_answer", folder)
  return [*module, "--only", side, "--case", case, "--output", str(output)]


def run(
  command: Sequence[str], env: Mapping[str, str]
) -> tuple[dict[str, float], str]:
  """Runs a process; its seconds, and what it prints."""
  began = time.perf_counter()
  with tempfile.TemporaryFile("w+") as file:
    process = subprocess.Popen(command, cwd=_ROOT, env=env, stdout=file)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
      raise SystemExit(f"error: {' '.join(command)}: {process.returncode}")
    file.seek(0)
    processor = usage.ru_utime + usage.ru_stime
    return {"wall": wall, "processor": processor}, file.read()


def compare(folder: str, peer: str, rounds: int, case: str) -> dict[str, Any]:
  """Runs all sides of a case in turn."""
  import numpy as np

  runs: dict[str, list[dict[str, float]]] = {side: [] for side in _SIDES}
  vectors = {}
  for _ in range(rounds):
    with tempfile.TemporaryDirectory() as name:
      env = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "HF_HUB_OFFLINE": "1",
        "XDG_CACHE_HOME": name,
        "PYTHONPATH": str(_ROOT),
      }
      env.pop("TF_CPP_MIN_LOG_LEVEL", None)  # Set by JAX in this process.
      for side in _SIDES:
        output = pathlib.Path(name) / "vectors"
        output.unlink(missing_ok=True)
        measured, printed = run(_command(side, case, folder, peer, output), env)
        runs[side].append(measured)
        vectors[side] = (
          np.fromfile(output, np.float32)
          if output.exists()
          else np.array(json.loads(printed), np.float32)
        )
  difference = max(
    float(np.abs(vectors[side] - vectors["theirs"]).max())
    for side in ("first", "again")
  )
  return {"case": case, "runs": runs, "difference": difference}


def main() -> None:
  """Measures, prints and writes the results."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument("folder")
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--peer", default=str(_PEER), help="a Python program")
  parser.add_argument("--case", choices=_CASES)
  parser.add_argument("--only", choices=_SIDES)
  parser.add_argument("--output", default=os.devnull)
  arguments = parser.parse_args()
  folder = str(pathlib.Path(arguments.folder).resolve())
  if arguments.only:
    case = arguments.case or _CASES[0]
    return answer(arguments.only, folder, case, arguments.output)
  from benchmarks import runner  # Not in the environment of the peer.

  cases = [arguments.case] if arguments.case else _CASES
  results = {
    "machine": runner.machine(),
    "cases": [
      compare(folder, arguments.peer, arguments.rounds, case) for case in cases
    ],
  }
  runner.write_results(runner.RESULTS / "first_answer.json", results)
  print_results(results["cases"])
  return None


def print_results(results: Sequence[Mapping[str, Any]]) -> None:
  """Prints the table."""
  from rich.table import Table

  from benchmarks import runner

  table = Table(
    "case",
    "process",
    "wall s (range)",
    "processor s (range)",
    "wall / theirs (range)",
    "processor / theirs (range)",
  )
  for result in results:
    theirs = result["runs"]["theirs"]
    for side in _SIDES:
      own = result["runs"][side]
      seconds = (
        runner.spread([x[kind] for x in own], ".1f")
        for kind in ("wall", "processor")
      )
      ratios = (
        runner.spread([x[kind] / y[kind] for x, y in zip(own, theirs)], ".2f")
        for kind in ("wall", "processor")
      )
      last = ("", "") if side == "theirs" else ratios
      table.add_row(result["case"], side, *seconds, *last)
  runner.print_table(table)
  for result in results:
    print(f"{result['case']}: vectors differ by {result['difference']:.1e}")


if __name__ == "__main__":
  main()
