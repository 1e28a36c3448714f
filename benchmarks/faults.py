"""Kills runs and damages checkpoints, and checks that nothing is lost or wrong.

  python -m benchmarks.faults [--kills 50] [--flips 1000] [--only kills ...]

Kills: a small pretraining run on the CPU is killed (SIGKILL) at random moments,
during its start, between updates and during saves, and resumed each time. At
the end its parameters, optimizer state, key and position in the data must equal
those of an uninterrupted run, bit for bit. The repeated updates are those from
the step of the resumed checkpoint to the last line of the metrics: less than
one save interval, or less than two if a save was in progress.

Damage: a random bit of a random file of a checkpoint is flipped, or a file is
truncated or removed; then the checkpoint is restored, and the damage undone.
`noticed`: an older step was restored, correctly. `harmless`: the same step was
restored, correctly. `wrong`: anything else.

Meshes: the same run on 1, 2, 4 and 8 simulated devices, each started on a
different number of devices.

Writes benchmarks/results/faults.json.
"""

import argparse
import json
import os
import pathlib
import platform
import random
import sys
import tempfile
import time
from collections import Counter
from typing import Any

import jax
import numpy as np
import rich
import rich.console
from absl import logging
from rich.progress import track
from rich.table import Table

from benchmarks import runner, small_runs
from benchmarks.small_runs import Process
from bert_jax import trees
from bert_jax.checkpointing import manifest
from bert_jax.checkpointing.checkpoints import Checkpoints
from bert_jax.data.corpus import build
from bert_jax.settings import UserError
from bert_jax.training import run as run_lib
from bert_jax.training.logging import read_metrics
from bert_jax.training.mesh import partitioning
from bert_jax.training.mesh.meshes import MeshConfig
from bert_jax.training.recipe import Recipe

_RESULTS = runner.RESULTS / "faults.json"
_EVERY = 20
_CONSOLE = rich.console.Console(stderr=True)


class Runs:
  """A folder with a corpus, a config and runs."""

  def __init__(self, folder: pathlib.Path, steps: int):
    """Prepares the corpus."""
    self.folder, self.steps = folder, steps
    self.config = small_runs.write(
      folder,
      steps,
      documents=200,
      corpus={"files": (str(folder / "text.txt"),)},
      model={"num_layers": 2},
      data={"corpus": str(folder / "corpus")},
      checkpoint={"every": _EVERY},
    )
    build.prepare(
      build.CorpusConfig(**self.config["corpus"]), folder / "corpus", 1
    )

  def launch(self, workdir: str, devices: int = 1) -> Process:
    """Starts or resumes a run on simulated devices."""
    env = {
      "JAX_PLATFORMS": "cpu",
      # All runs share a compilation cache.
      "JAX_COMPILATION_CACHE_DIR": str(self.folder / "compilation_cache"),
      "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
      "TF_CPP_MIN_LOG_LEVEL": "3",
      **os.environ,
    }
    if devices > 1:
      flags = f"--xla_force_host_platform_device_count={devices}"
      env["XLA_FLAGS"] = flags
    arguments = ("--config=config.py", f"--workdir={workdir}")
    return Process("train", *arguments, cwd=self.folder, env=env)

  def train(self, workdir: str, devices: int = 1) -> None:
    """Trains to the end."""
    process = self.launch(workdir, devices)
    code, out, err = process.end(seconds=3600)
    if code:
      sys.exit(out + err)

  def losses(self, workdir: str) -> np.ndarray:
    """The loss of every update."""
    rows = read_metrics(self.folder / workdir)
    return np.array([x["mlm_loss"] for x in rows if x["split"] == "train"])

  def state(self, workdir: str) -> tuple[dict[str, np.ndarray], Any]:
    """The arrays of the newest step by path, and its metadata."""
    with Checkpoints(self.folder / workdir / "checkpoints") as checkpoints:
      restored = checkpoints.restore(self.target())
    assert restored is not None
    return _arrays(restored[0]), restored[1]

  def target(self) -> Any:
    """The shape structs of the state of a run."""
    recipe = Recipe.from_dict(self.config)
    layout = partitioning.make_layout(MeshConfig(), jax.devices()[:1])
    task, _ = recipe.make_task()
    optimizer, _ = run_lib.make_optimizer(recipe, task)
    return partitioning.state_shapes(
      lambda: run_lib.initial_state(recipe, task, optimizer), layout
    )


def _arrays(state: Any) -> dict[str, np.ndarray]:
  found = trees.flatten(state)
  found["key"] = jax.random.key_data(state.key)
  return {path: np.asarray(leaf) for path, leaf in found.items()}


def _same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
  return a.keys() == b.keys() and all(
    a[path].tobytes() == b[path].tobytes() for path in a
  )


def kill(runs: Runs, kills: int, rng: random.Random) -> dict[str, Any]:
  """Kills and resumes a run, and compares its end with an uninterrupted one."""
  redone, under_way, before = [], 0, 0
  workdir = runs.folder / "killed"
  for _ in track(range(kills), "kills", console=_CONSOLE):
    with runs.launch("killed") as process:
      if rng.random() < 0.2:
        time.sleep(rng.uniform(0, 6))  # Often before the first update.
      else:
        wanted = min(before + rng.randrange(1, 2 * _EVERY), runs.steps - 1)
        small_runs.wait_for_step(workdir, wanted, [process])
        time.sleep(rng.uniform(0, 0.05))
      if process.poll() is not None:
        sys.exit(f"the run ended too early: {process.end()}")
    seen = small_runs.last_step(workdir)
    steps = manifest.finished_steps(workdir / "checkpoints")
    before = max(steps, default=0)
    redone.append(seen - before)
    under_way += seen // _EVERY * _EVERY > before
  runs.train("killed")
  (plain, metadata), (killed, other) = runs.state("plain"), runs.state("killed")
  return {
    "kills": kills,
    "bit for bit equal": _same(plain, killed),
    "same position in the data": metadata["position"] == other["position"],
    "maximum of repeated updates": max(redone),
    "updates between saves": _EVERY,
    "kills during a save": under_way,
  }


def damage(runs: Runs, times: int, rng: random.Random) -> dict[str, int]:
  """Damages and restores checkpoints, and undoes the damage."""
  verbosity = logging.get_verbosity()
  logging.set_verbosity(logging.FATAL)
  folder, target = runs.folder / "plain" / "checkpoints", runs.target()
  newest = max(manifest.finished_steps(folder))
  files = sorted(p for p in (folder / str(newest)).rglob("*") if p.is_file())
  # Half of the time, files are chosen by size, as random bit flips are.
  weights = [path.stat().st_size for path in files]
  with Checkpoints(folder) as checkpoints:
    truth = {newest: _arrays(checkpoints.restore(target)[0])}
    found: Counter[str] = Counter()
    for _ in range(times):
      path = rng.choices(files, weights if rng.random() < 0.5 else None)[0]
      whole = path.read_bytes()
      what = rng.choices(("flip", "cut", "remove"), (90, 5, 5))[0]
      if what == "remove":
        path.unlink()
      else:
        path.write_bytes(_damaged(whole, what, rng))
      try:
        state = checkpoints.restore(target)[0]
        arrays, step = _arrays(state), int(state.step)
        if step != newest:
          truth.setdefault(step, arrays)
        name = "harmless" if step == newest else "noticed"
        found[name if _same(arrays, truth[step]) else "wrong"] += 1
      except (UserError, OSError):
        found["refused"] += 1
      path.write_bytes(whole)
  logging.set_verbosity(verbosity)
  return {"damages": times, "wrong": found.pop("wrong", 0), **found}


def _damaged(whole: bytes, what: str, rng: random.Random) -> bytes:
  if what == "cut":
    return whole[: rng.randrange(len(whole) or 1)]
  changed = bytearray(whole or b"\0")
  changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
  return bytes(changed)


def meshes(runs: Runs) -> dict[str, Any]:
  """Runs that start and end on different numbers of devices."""
  half = runs.steps // 2 // _EVERY * _EVERY
  losses = {}
  for devices in (1, 2, 4, 8):
    workdir, other = f"devices_{devices}", 8 // devices
    with runs.launch(workdir, other) as process:
      small_runs.wait_for_step(runs.folder / workdir, half + 1, [process])
      process.terminate()
      process.wait()
    runs.train(workdir, devices)
    losses[devices] = runs.losses(workdir)
  expected = runs.losses("plain")
  return {
    f"maximum difference of a loss, {8 // n} then {n} devices": float(
      f"{np.abs(losses[n] - expected).max():.2g}"
    )
    for n in losses
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--kills", type=int, default=50)
  parser.add_argument("--flips", type=int, default=1000)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument(
    "--only", nargs="*", choices=("kills", "damage", "meshes"), default=()
  )
  arguments = parser.parse_args()
  rng = random.Random(arguments.seed)
  with tempfile.TemporaryDirectory() as folder:
    runs = Runs(pathlib.Path(folder), max(_EVERY * (arguments.kills + 5), 100))
    runs.train("plain")
    parts = {
      "kills": lambda: kill(runs, arguments.kills, rng),
      "damage": lambda: damage(runs, arguments.flips, rng),
      "meshes": lambda: meshes(runs),
    }
    found = {name: parts[name]() for name in arguments.only or parts}
  table = Table("fault", "result", "", title=platform.platform())
  for fault, figures in found.items():
    for name, value in figures.items():
      table.add_row(fault, name, str(value))
  rich.print(table)
  earlier = json.loads(_RESULTS.read_text()) if _RESULTS.exists() else {}
  runner.write_results(_RESULTS, earlier | found)


if __name__ == "__main__":
  main()
