"""Small pretraining runs in new processes, for faults and tests.

The fault benchmark and the end-to-end tests use its text, config and processes.
"""

import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

from bert_jax.training.logging import METRICS_FILE, read_metrics

ROOT = pathlib.Path(__file__).parents[1]
_WORDS = ("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta")
_CONFIG = """
from ml_collections import ConfigDict

def get_config():
  return ConfigDict(%r)
"""


def write(
  folder: pathlib.Path, steps: int, documents: int = 30, **changes: Any
) -> dict[str, Any]:
  """Writes `text.txt`, and `config.py` of a run on it.

  `launch.prepare --config=config.py --output=corpus` in the folder prepares the
  corpus of the config. `changes` are keys of the config or of its sections.
  """
  rng = random.Random(0)
  texts = (
    "\n".join(" ".join(rng.choices(_WORDS, k=6)) for _ in range(5))
    for _ in range(documents)
  )
  (folder / "text.txt").write_text("\n\n".join(texts))
  config: dict[str, Any] = {
    "steps": steps,
    "batch_size": 8,
    "corpus": {
      "source": "text_files",
      "files": ("text.txt",),
      "sentences": "line",
      "vocab_size": 120,
      "shards": 2,
    },
    "model": {
      "hidden_size": 16,
      "num_layers": 1,
      "num_heads": 2,
      "intermediate_size": 32,
      "max_positions": 32,
    },
    "data": {"corpus": "corpus", "max_length": 32, "max_predictions": 4},
    "evaluation": {"every": 10_000, "examples": 16},
    "logging": {"every": 1},
  }
  for key, value in changes.items():
    is_section = isinstance(value, Mapping)
    config[key] = {**config.get(key, {}), **value} if is_section else value
  (folder / "config.py").write_text(_CONFIG % config)
  return config


class Process(subprocess.Popen):
  """A process of a command of `launch`, killed at the end of its context.

  Its output goes to files: a pipe that is not read blocks the process after
  64 KiB.
  """

  def __init__(
    self,
    command: str,
    *arguments: str,
    cwd: pathlib.Path,
    env: Mapping[str, str],
  ):
    """Starts a module in `launch`; `env` is added to the environment."""
    self.began = time.time()
    # Read when the process has ended.
    self._files = [tempfile.TemporaryFile("w+") for _ in range(2)]  # noqa: SIM115
    super().__init__(
      [sys.executable, "-m", f"launch.{command}", *arguments],
      cwd=cwd,
      env={**os.environ, **env, "PYTHONPATH": str(ROOT)},
      stdout=self._files[0],
      stderr=self._files[1],
    )

  def end(self, seconds: float = 120) -> tuple[int, str, str]:
    """Waits; returns the exit code, the output and the error output."""
    code = self.wait(seconds)
    texts = []
    for file in self._files:
      file.seek(0)
      texts.append(file.read())
    return code, *texts

  def __enter__(self) -> Self:
    return self

  def __exit__(self, *exception: object) -> None:
    if self.poll() is None:
      self.kill()
      self.wait()


def free_address() -> str:
  """`localhost:PORT` with an unused port."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    return f"localhost:{probe.getsockname()[1]}"


def cluster(count: int) -> list[list[str]]:
  """The flags of each process of a run with `count` processes on this host."""
  address = free_address()
  return [
    [
      f"--coordinator_address={address}",
      f"--num_processes={count}",
      f"--process_id={index}",
    ]
    for index in range(count)
  ]


def last_step(workdir: pathlib.Path) -> int:
  """The last step in the metrics file; 0 if there is none."""
  rows = read_metrics(workdir)
  return rows[-1]["step"] if rows else 0


def wait_for_step(
  workdir: pathlib.Path,
  step: int,
  processes: Sequence[Process],
  seconds: float = 400,
) -> None:
  """Waits until these processes log a step; a `RuntimeError` if they do not."""
  limit = time.monotonic() + seconds
  file = workdir / METRICS_FILE
  # A run rewrites the metrics file up to the step that it resumes from, so the
  # file of an earlier run may have later steps.
  while not (
    file.exists()
    and file.stat().st_mtime >= processes[0].began
    and last_step(workdir) >= step
  ):
    for process in processes:
      if process.poll() is not None:
        code, out, err = process.end()
        raise RuntimeError(f"ended with {code} before step {step}: {out}{err}")
    if time.monotonic() > limit:
      raise RuntimeError(f"step {step} was not reached in {seconds:g} s")
    time.sleep(0.005)
