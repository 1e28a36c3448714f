"""The commands of the main job, as a user runs them, and what goes wrong."""

import json

import pytest

from benchmarks import small_runs
from benchmarks.small_runs import Process, wait_for_step
from bert_jax.cluster.interruption import EXIT_CODE
from tests import compiling
from tests.commands import mistake, output

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
  output("prepare", "--config=config.py", "--output=corpus", cwd=folder)
  output("train", "--config=config.py", "--workdir=finished", cwd=folder)
  return folder


def test_a_run_that_is_asked_to_stop_saves_and_says_so(home):
  with train(home, "stopped") as process:
    wait_for_step(home / "stopped", 1, [process])
    process.terminate()
    code, _, err = process.end(60)
  assert code == EXIT_CODE
  assert "stopped at step" in err.splitlines()[-1]


def test_masks_are_filled_from_the_shell(home):
  out = output(
    "predict", "--model=finished", "--text=alpha [MASK] beta", cwd=home
  )
  assert out.startswith("mask 1:")
  lines = [{"text": "alpha [MASK]", "id": 7}, {"text": "[MASK] [MASK]"}]
  (home / "in.jsonl").write_text("\n".join(map(json.dumps, lines)))
  output(
    "predict",
    "--model=finished",
    "--input=in.jsonl",
    "--output=out.jsonl",
    "--top_k=2",
    cwd=home,
  )
  rows = list(map(json.loads, (home / "out.jsonl").read_text().splitlines()))
  assert [len(row["answer"]) for row in rows] == [1, 2]
  assert rows[0]["id"] == 7
  assert set(rows[0]["answer"][0][0]) == {"token", "probability"}


def test_the_report_has_a_picture_and_the_figures(home):
  out = output("report", "--workdir=finished", cwd=home)
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
  assert (home / "finished" / "curves.png").stat().st_size > 10_000


@pytest.mark.parametrize(
  ("name", "arguments", "message"),
  [
    ("train", ["--config.model.hiden_size=3"], "hiden_size"),
    # A section that the file does not have.
    ("train", ["--config.mesh.fspd=3"], "config.mesh.fspd: unknown key; did"),
    ("train", ["--config.data.corpus=nowhere"], "config.data.corpus"),
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
  assert message in mistake(name, *arguments, cwd=home)
