"""Runs that learn from labelled records, on top of a pretrained encoder."""

import json
import shutil

import pytest

import bert_jax
from bert_jax.settings import UserError
from bert_jax.training import evaluation
from bert_jax.training.recipe import Recipe
from tests import pytrees
from tests.errors import user_error
from tests.tasks import learnable
from tests.tasks.learnable import train
from tests.training.finetune_runs import (
  EPOCH,
  every_step,
  held_out,
  recipe,
  steps,
)


def test_epochs_are_steps_and_each_ends_with_an_evaluation(home, tmp_path):
  values, said = train(recipe(home, steps=0, epochs=1.9), tmp_path)
  assert "starting at step 0 of 6" in said
  assert "12 training and 7 evaluation records" in said
  assert steps(held_out(tmp_path)) == [0, EPOCH, 2 * EPOCH]
  last = held_out(tmp_path)[-1]
  assert {*values} <= {*last}
  for name, value in values.items():
    assert last[name] == pytest.approx(value, rel=1e-5)
  # The seed and the schedule are the same, so all is.
  pytrees.assert_equal(pytrees.load(tmp_path), pytrees.load(home / "run"))


@pytest.mark.parametrize(
  ("epochs", "batches", "wanted"), [(3.0, 7, 21), (0.5, 1, 1), (0.1, 25, 3)]
)
def test_a_part_of_an_epoch_is_rounded_up(epochs, batches, wanted):
  made = Recipe.from_dict({"batch_size": 4, "epochs": epochs}).planned(batches)
  assert (made.steps, made.epochs) == (wanted, 0)
  made = Recipe.from_dict(
    {
      "batch_size": 4,
      "epochs": epochs,
      "evaluation": {"every": 0},
      "checkpoint": {"every": 5},
    }
  ).planned(batches)
  assert (made.evaluation.every, made.checkpoint.every) == (batches, 5)


def test_it_says_what_begins_anew_and_what_was_compiled(home):
  said = (home / "said").read_text()
  new = (
    f"not in {home / 'init'}, so initialized from the seed: classifier, pool"
  )
  assert new in said
  assert "compiled 1 updates, for rows of 16 tokens" in said
  # What is followed is measured before the first update too.
  assert steps(held_out(home / "run")) == [0, EPOCH, 2 * EPOCH]


def test_a_finished_run_says_what_it_found(home):
  values, said = train(recipe(home), home / "run")
  assert values == pytest.approx(json.loads((home / "values").read_text()))
  assert f"nothing to do: the run ended at step {2 * EPOCH}" in said


@pytest.fixture(scope="module")
def stopped(home):
  """A run that learns to give the one answer that is always wrong."""
  rows = {
    kind: [{"text": text, "label": kind} for text in ("it is", "the names") * 4]
    for kind in ("list", "array")
  }
  config = recipe(
    home, evaluation__every=1, evaluation__metric="loss", evaluation__patience=2
  )
  config["data"] |= {
    "train": learnable.write(home / "lists.jsonl", rows["list"]),
    "eval": learnable.write(home / "arrays.jsonl", rows["array"]),
    "targets": {"label": {"labels": learnable.KINDS}},
  }
  values, said = train(config, home / "stopped")
  assert (
    "stopped at step 3: no better loss than at step 1 in 2 evaluations" in said
  )
  found = f"{values['loss']:.4g} at step 1; the model is"
  assert f"best loss {found}" in said
  return config


def test_a_run_that_gets_no_better_stops_and_stays_so(home, stopped):
  folder = home / "stopped"
  values, said = train(stopped, folder)
  assert "nothing to do: the run ended at step 3" in said
  losses = [row["loss"] for row in held_out(folder)][1:]
  assert steps(held_out(folder)) == [0, 1, 2, 3]
  assert losses[0] == min(losses) < losses[2]
  assert values["loss"] == pytest.approx(losses[0], rel=1e-5)


def test_the_best_step_is_what_is_loaded(home, stopped, tmp_path):
  folder = home / "stopped"
  kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
  assert kept == ["1", "3"]
  for step in kept:
    shutil.copytree(folder, tmp_path / step)
    shutil.rmtree(tmp_path / step / "checkpoints" / step)
  pytrees.assert_equal(pytrees.load(folder), pytrees.load(tmp_path / "3"))
  last = pytrees.load(tmp_path / "1")
  assert any(
    (last[path] != x).any() for path, x in pytrees.load(folder).items()
  )


def test_thresholds_are_those_of_the_checkpoint_that_is_loaded(tmp_path):
  config = learnable.recipe(
    tmp_path, "multi_label", evaluation__every=1, steps=2
  )
  train(every_step(config), tmp_path / "run")
  found = []
  for step in "21":
    task = bert_jax.load(tmp_path / "run").task
    found.append(task.targets["labels"].thresholds)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / step)
  assert [len(thresholds) for thresholds in found] == [3, 3]
  assert found[0] != found[1]


def test_with_more_patience_it_goes_on(home, stopped, tmp_path):
  shutil.copytree(home / "stopped", tmp_path / "run")
  changed = {**stopped, "evaluation": {**stopped["evaluation"], "patience": 3}}
  _, said = train(changed, tmp_path / "run")
  assert "resuming at step 3" in said
  assert "stopped at step 4: no better loss than at step" in said
  assert "at step 1 in 3 evaluations" in said


@pytest.mark.parametrize("metric", ["", "accuracy"])
def test_a_run_can_be_asked_for_another_measure(
  home, stopped, tmp_path, metric
):
  shutil.copytree(home / "stopped", tmp_path / "run")
  evaluation = {**stopped["evaluation"], "metric": metric, "patience": 0}
  values, said = train({**stopped, "evaluation": evaluation}, tmp_path / "run")
  assert ("best accuracy" in said) == bool(metric)
  found = [row["accuracy"] for row in held_out(tmp_path / "run")]
  wanted = max(found) if metric else found[-1]
  assert values["accuracy"] == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize(
  ("changes", "rows"), [({}, 2), ({"evaluation__batch_size": 4}, 4)]
)
def test_an_evaluation_takes_the_rows_of_a_micro_batch(
  home, tmp_path, monkeypatch, changes, rows
):
  def make(task, data, mesh, batch_size, limit):
    raise UserError(f"{batch_size} rows, {limit} records")

  monkeypatch.setattr(evaluation, "make", make)
  config = recipe(home, accumulation=2, evaluation__examples=5, **changes)
  with user_error(f"{rows} rows, 5 records"):
    train(config, tmp_path)


def test_a_misspelt_measure_is_said_and_can_be_mended(home, tmp_path):
  config = recipe(home, evaluation__metric="acuracy")
  with user_error() as error:
    train(config, tmp_path)
  start = "config.evaluation.metric: unknown 'acuracy'; did you mean 'accuracy'"
  assert str(error.value).startswith(start)
  config["evaluation"]["metric"] = "accuracy"
  _, said = train(config, tmp_path)
  assert "best accuracy" in said


def test_as_many_updates_are_compiled_as_there_are_lengths(home, tmp_path):
  rows = learnable.records("classification")
  for row in rows[:4]:
    row["text"] += " of the names" * 2
  config = recipe(home)
  config["data"] |= {
    "train": learnable.write(tmp_path / "long.jsonl", rows),
    "length_buckets": [8],
  }
  _, said = train(config, tmp_path / "run")
  assert "compiled 2 updates, for rows of 8, 16 tokens" in said
