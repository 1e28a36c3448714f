"""The commands of fine-tuning, as a user runs them."""

import json

import pytest

import bert_jax
from benchmarks.small_runs import ROOT
from bert_jax.training.logging import read_metrics
from tests.commands import mistake, output
from tests.interop import folders
from tests.tasks import learnable

CONFIG = f"--config={ROOT}/configs/finetune/classification.py"
# The task's own recipe, on a tiny encoder.
KEYS = {
  "batch_size": 4,
  "epochs": 1.0,
  "data.train": "classification_train.jsonl",
  "data.eval": "classification_eval.jsonl",
  "data.max_length": 16,
  "init": "init",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  folder = tmp_path_factory.mktemp("home")
  learnable.data(folder, "classification")
  bert_jax.save(folders.model("bert", "masked_lm"), folder / "init")
  return folder


def options(**changes):
  return [f"--config.{key}={value}" for key, value in (KEYS | changes).items()]


def test_a_seed_is_trained_and_its_model_predicts(home):
  out = output(
    "train", CONFIG, "--workdir=runs", "--seeds=3", *options(), cwd=home
  )
  assert "of 1 runs failed" in out
  summary = json.loads((home / "runs" / "seeds.json").read_text())
  (values,) = summary["runs"].values()
  row = read_metrics(home / "runs" / "seed_3")[-1]
  assert (row["split"], row["step"]) == ("eval", 3)
  assert row["accuracy"] == pytest.approx(values["accuracy"], abs=1e-5)
  out = output(
    "predict", "--model=runs/seed_3", "--text=the list is it", cwd=home
  )
  assert {"list", "array", "sorts"} <= {*out.replace('"', " ").split()}


def test_mistakes_end_in_a_line_before_any_training(home):
  for arguments, message in (
    (["--seeds=0,x"], "--seeds: expected numbers, got 0,x"),
    (["--profile=3"], "--profile: expected FIRST:LAST, got 3"),
    (["--profile=1:2", "--seeds=0,1"], "--profile: not together with --seeds"),
    (options(**{"data.train": "no.tsv"}), "config.data.train: "),
    (["--config.data.heaedr=a"], "config.data.heaedr: unknown key; did"),
  ):
    given = arguments if "config" in message else [*options(), *arguments]
    line = mistake("train", CONFIG, "--workdir=wrong", *given, cwd=home)
    assert line.startswith(message)
  given = ["--workdir=wrong", "--search=seed", *options()]
  line = mistake("sweep", CONFIG, *given, cwd=home)
  assert line.startswith("--search seed: expected KEY=V1,V2")
