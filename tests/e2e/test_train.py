"""The commands of the main job, as a user runs them, and what goes wrong."""

import json
import subprocess

import numpy as np
import pytest

import bert_jax
from benchmarks import small_runs
from benchmarks.small_runs import Process, wait_for_step
from bert_jax import trees
from bert_jax.cluster.interruption import EXIT_CODE
from tests import compiling
from tests.commands import run

STEPS = 40


def launch(name, *arguments, cwd):
  env = compiling.simulated(1)
  env |= {"PATH": "/usr/bin:/bin", "HOME": str(cwd)}
  return Process(name, *arguments, cwd=cwd, env=env)


def train(cwd, workdir, *arguments):
  return launch(
    "train", "--config=config.py", f"--workdir={workdir}", *arguments, cwd=cwd
  )


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """A folder with text, a config, a prepared corpus and a finished run."""
  folder = tmp_path_factory.mktemp("home")
  small_runs.write(
    folder, STEPS, evaluation={"every": 20}, checkpoint={"every": 2}
  )
  code, _, err = run(
    "prepare", "--config=config.py", "--output=corpus", cwd=folder
  )
  assert code == 0, err
  code, _, err = run(
    "train", "--config=config.py", "--workdir=finished", cwd=folder
  )
  assert code == 0, err
  return folder


def assert_equal_runs(one, other):
  one, other = bert_jax.load(one), bert_jax.load(other)
  expected = trees.flatten(other.params)
  for path, value in trees.flatten(one.params).items():
    np.testing.assert_array_equal(value, expected[path], err_msg=path)


def test_a_run_that_is_asked_to_stop_saves_and_says_so(home):
  with train(home, "stopped") as process:
    wait_for_step(home / "stopped", 1, [process])
    process.terminate()
    code, _, err = process.end(60)
  assert code == EXIT_CODE
  assert "stopped at step" in err.splitlines()[-1]


def test_masks_are_filled_from_the_shell(home):
  code, out, err = run(
    "predict", "--model=finished", "--text=alpha [MASK] beta", cwd=home
  )
  assert code == 0, err
  assert out.startswith("mask 1:")
  lines = [{"text": "alpha [MASK]", "id": 7}, {"text": "[MASK] [MASK]"}]
  (home / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
  code, _, err = run(
    "predict",
    "--model=finished",
    "--input=in.jsonl",
    "--output=out.jsonl",
    "--top_k=2",
    cwd=home,
  )
  assert code == 0, err
  rows = list(map(json.loads, (home / "out.jsonl").read_text().splitlines()))
  assert [len(row["answer"]) for row in rows] == [1, 2]
  assert rows[0]["id"] == 7
  assert set(rows[0]["answer"][0][0]) == {"token", "probability"}


def test_the_report_has_a_picture_and_the_figures(home):
  code, out, err = run("report", "--workdir=finished", cwd=home)
  assert code == 0, err
  assert "mlm_accuracy" in out
  results = json.loads((home / "finished" / "results.json").read_text())
  assert results["steps"] == STEPS
  assert {
    "mlm_accuracy",
    "mlm_accuracy_unigram_baseline",
    "nsp_accuracy",
    "nsp_accuracy_majority_baseline",
    "non_padding_tokens_per_second",
    "seconds",
  } <= set(results)
  picture = (home / "finished" / "curves.png").read_bytes()
  assert picture.startswith(b"\x89PNG")
  assert len(picture) > 10_000


@pytest.mark.parametrize(
  ("name", "arguments", "message"),
  [
    ("train", ["--config.model.hiden_size=3"], "hiden_size"),
    # A section that the file does not have.
    ("train", ["--config.mesh.fspd=3"], "config.mesh.fspd: unknown key; did"),
    ("train", ["--config.steps=many"], "many"),
    ("train", ["--config.data.corpus=nowhere"], "config.data.corpus"),
    ("train", ["--config=nowhere.py"], "nowhere.py"),
    ("predict", ["--model=nowhere", "--text=[MASK]"], "no such file or folder"),
    ("predict", ["--model=finished"], "give one of --text"),
    ("predict", ["--model=finished", "--text=no"], "no [MASK] in the text"),
    (
      "predict",
      ["--model=finished", "--input=text.txt", "--output=x.jsonl"],
      "text.txt:1: no [MASK] in the text",
    ),
    ("report", ["--workdir=nowhere"], "metrics.jsonl"),
  ],
)
def test_a_mistake_gets_one_clear_line(home, name, arguments, message):
  if name == "train":
    arguments = ["--config=config.py", "--workdir=mistake", *arguments]
  code, out, err = run(name, *arguments, cwd=home)
  assert code == 2
  lines = (out + err).strip().splitlines()
  assert len(lines) == 1, err
  assert lines[0].startswith("error: ")
  assert message in lines[0]


def test_a_damaged_run_falls_back_or_says_why(home):
  subprocess.run(["cp", "-r", "finished", "damaged"], cwd=home, check=True)
  steps = (home / "damaged" / "checkpoints").iterdir()
  newest = max(steps, key=lambda path: int(path.name))
  big = max(
    (path for path in newest.rglob("*") if path.is_file()),
    key=lambda path: path.stat().st_size,
  )
  data = bytearray(big.read_bytes())
  data[len(data) // 2] ^= 1
  big.write_bytes(data)
  code, out, err = run(
    "predict", "--model=damaged", "--text=alpha [MASK]", cwd=home
  )
  assert code == 0
  assert out.startswith("mask 1:")
  assert big.name in err
