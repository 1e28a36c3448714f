import json
import math

import numpy as np
import pytest

from bert_jax.training import run, sweep
from bert_jax.training.logging import read_metrics
from bert_jax.training.metrics import DivergedError
from bert_jax.training.recipe import Recipe
from tests.errors import user_error
from tests.training import finetune_runs


@pytest.fixture
def runs(monkeypatch):
  """What a run with each seed finds, in place of training it."""
  found = {}

  def train(recipe, workdir):
    workdir.mkdir(parents=True)
    if found[recipe.seed] is None:
      raise DivergedError("the loss is not finite")
    return found[recipe.seed]

  monkeypatch.setattr(run, "train_recipe", train)
  return found


def repeat(tmp_path, numbers, metric=""):
  config = {"batch_size": 4, "steps": 3, "evaluation": {"metric": metric}}
  return sweep.repeat(Recipe.from_dict(config), tmp_path, numbers)


def figures(accuracy, rmse=1.0):
  return {"rmse": rmse, "accuracy": accuracy, "accuracy_majority_baseline": 0.6}


def test_means_and_spreads_are_those_of_numpy(runs, tmp_path):
  runs |= {0: figures(0.7), 5: figures(0.9, 3.0), 2: figures(0.65, 0.5)}
  summary = repeat(tmp_path, [0, 5, 2])
  assert list(summary["runs"]) == [0, 5, 2]
  values = [0.7, 0.9, 0.65]
  assert summary["mean"]["accuracy"] == pytest.approx(np.mean(values))
  assert summary["std"]["accuracy"] == pytest.approx(np.std(values, ddof=1))
  assert summary["std"]["rmse"] == pytest.approx(np.std([1, 3, 0.5], ddof=1))
  assert summary["std"]["accuracy_majority_baseline"] == pytest.approx(0)
  assert summary["failed"] == []
  kept = json.loads((tmp_path / sweep.SEEDS_FILE).read_text())
  assert kept["mean"] == summary["mean"]
  assert kept["runs"]["5"] == runs[5]
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    "seed_0",
    "seed_2",
    "seed_5",
    "seeds.json",
  ]


def test_runs_that_end_early_or_learn_nothing_have_failed(
  runs, tmp_path, capsys
):
  runs |= {0: figures(0.7), 1: None, 2: figures(0.6), 3: figures(math.nan)}
  summary = repeat(tmp_path, [0, 1, 2, 3], metric="accuracy")
  assert summary["failed"] == [1, 2, 3]
  assert summary["runs"][1] is None
  sweep.print_seeds({**summary, "mean": {"accuracy": 0.65}})
  printed = capsys.readouterr().out
  assert "3 of 4 runs failed: seeds 1, 2, 3" in printed
  assert "0.7 0.6 nan" in " ".join(printed.split())


@pytest.mark.parametrize(
  ("values", "metric", "failed"),
  [
    # Of errors the lower one is better.
    ({"rmse": 0.5, "rmse_mean_baseline": 1.0}, "", False),
    ({"rmse": 1.0, "rmse_mean_baseline": 1.0}, "", True),
    ({"rmse": 2.0, "rmse_mean_baseline": 1.0}, "rmse", True),
    # Another measure is what the run is known by.
    ({"f1": 0.1, "exact": 0.0, "exact_majority_baseline": 0.5}, "f1", False),
    ({"f1": 0.1, "exact": 0.0, "exact_majority_baseline": 0.5}, "", True),
    (
      {"ner/accuracy": 0.5, "ner/accuracy_majority_baseline": 0.9},
      "ner/accuracy",
      True,
    ),
    ({"pearson": 0.0}, "pearson", False),
  ],
)
def test_a_run_has_failed_if_a_constant_is_as_good(
  runs, tmp_path, values, metric, failed
):
  runs[7] = values
  assert repeat(tmp_path, [7], metric)["failed"] == [7] * failed


def test_all_runs_may_end_early(runs, tmp_path, capsys):
  runs |= {0: None, 1: None}
  summary = repeat(tmp_path, [0, 1])
  assert (summary["mean"], summary["std"]) == ({}, {})
  sweep.print_seeds(summary)
  assert "2 of 2 runs failed" in capsys.readouterr().out


def test_one_run_has_no_spread(runs, tmp_path):
  runs[3] = figures(0.7)
  assert set(repeat(tmp_path, [3])["std"].values()) == {0.0}


@pytest.mark.parametrize("numbers", [[], [1, 1]])
def test_seeds_are_checked(tmp_path, numbers):
  with user_error("--seeds: expected different seeds, got"):
    repeat(tmp_path, numbers)


def test_seeds_make_different_runs_and_are_not_trained_twice(home, tmp_path):
  recipe = Recipe.from_dict(finetune_runs.recipe(home))
  first = sweep.repeat(recipe, tmp_path / "runs", [0, 1])
  losses = [values["loss"] for values in first["runs"].values()]
  assert losses[0] != losses[1]
  rows = read_metrics(tmp_path / "runs" / "seed_1")
  more = sweep.repeat(recipe, tmp_path / "runs", [1, 0])
  assert read_metrics(tmp_path / "runs" / "seed_1") == rows
  assert more["mean"] == pytest.approx(first["mean"], rel=1e-5)
