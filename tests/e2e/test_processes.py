"""Runs of two processes, and what becomes of them on a cluster."""

import contextlib
import resource
import signal
import subprocess
import sys

import numpy as np
import pytest

import bert_jax
from benchmarks import small_runs
from benchmarks.small_runs import Process, wait_for_step
from bert_jax import trees
from bert_jax.cluster.interruption import EXIT_CODE
from bert_jax.data.corpus import build
from bert_jax.training.logging import read_metrics
from bert_jax.training.recipe import Recipe
from bert_jax.training.run import train_recipe
from tests import compiling

# Enough for a signal to reach a run long before its end.
STEPS = 80
# How one ends that the other has left: by itself, or the runtime is first.
LEFT = (EXIT_CODE, -signal.SIGABRT)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """A folder with a prepared corpus, a config, and a run that none touched."""
  folder = tmp_path_factory.mktemp("home")
  config = small_runs.write(
    folder,
    STEPS,
    task="masked_lm",
    corpus={"files": (str(folder / "text.txt"),), "eval_fraction": 0.1},
    data={"corpus": str(folder / "corpus")},
    # Both processes have something to save.
    mesh={"shard_optimizer": True},
    checkpoint={"every": 10},
  )
  build.prepare(build.CorpusConfig(**config["corpus"]), folder / "corpus", 1)
  train_recipe(Recipe.from_dict(config), folder / "alone")
  return folder


def launch(home, workdir, *arguments):
  env = compiling.simulated(1)
  return Process(
    "train",
    "--config=config.py",
    f"--workdir={workdir}",
    *arguments,
    cwd=home,
    env=env,
  )


@contextlib.contextmanager
def two(home, *arguments, workdir="two"):
  with contextlib.ExitStack() as stack:
    yield [
      stack.enter_context(launch(home, workdir, *flags, *arguments))
      for flags in small_runs.cluster(2)
    ]


def ends(processes):
  codes, _, errors = zip(*(process.end() for process in processes))
  return list(codes), errors


def test_a_run_of_two_loses_nothing(home):
  workdir = home / "two"
  # The disk of one is full: it ends, and the other notices that it is lost, as
  # it would if the process had been killed.
  with two(home, "--heartbeat_seconds=5") as processes:
    wait_for_step(workdir, 15, processes)
    # So small that not even its log can be written to.
    resource.prlimit(processes[1].pid, resource.RLIMIT_FSIZE, (512, 512))
    codes, errors = ends(processes)
    assert codes[0] in LEFT and codes[1] == 2, errors
  # One is asked to stop: both save the same step.
  with two(home) as processes:
    wait_for_step(workdir, 25, processes)
    processes[1].terminate()
    codes, errors = ends(processes)
    assert codes == [EXIT_CODE, EXIT_CODE], errors
  # The same command goes on to the end.
  with two(home) as processes:
    codes, errors = ends(processes)
    assert codes == [0, 0], errors
  assert_as_alone(home)


def assert_as_alone(home):
  losses = [
    [x["mlm_loss"] for x in read_metrics(home / name) if x["split"] == "train"]
    for name in ("alone", "two")
  ]
  assert len(losses[0]) == STEPS
  np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
  alone, two = (bert_jax.load(home / name).params for name in ("alone", "two"))
  expected = trees.flatten(alone)
  for path, value in trees.flatten(two).items():
    np.testing.assert_allclose(value, expected[path], atol=1e-4, err_msg=path)


def test_one_whose_output_nobody_reads_does_not_wait_for_the_others():
  code = """\
import os
import rich
from launch import cli

class Joined:
  def exit_alone(code):
    os._exit(70 + code)

def command(values):
  cli._processes = Joined
  for _ in range(100_000):
    rich.print("a line")

cli.run(command, lambda values: None, [])
"""
  with subprocess.Popen(
    [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=small_runs.ROOT
  ) as process:
    process.stdout.close()
    assert process.wait(60) == 71


def test_a_mistake_ends_all_processes_with_its_line(home):
  (home / "damaged").mkdir()
  (home / "damaged" / "bert_jax.json").write_text("{")
  with two(home, workdir="damaged") as processes:
    codes, errors = ends(processes)
  assert codes == [2, 2], errors
  assert all("bert_jax.json: damaged" in err for err in errors)
