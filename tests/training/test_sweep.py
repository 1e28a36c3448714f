import json
import sys

import pytest

from bert_jax.cluster.interruption import Interrupted
from bert_jax.training import run, sweep
from bert_jax.training.metrics import DivergedError
from bert_jax.training.sweep import Search
from tests.errors import user_error

CONFIG = {
  "batch_size": 4,
  "steps": 3,
  "optimizer": {"learning_rate": 1e-3},
  "evaluation": {"metric": "accuracy"},
}
RATES = Search("optimizer.learning_rate", (), 1e-5, 1e-1, log=True)
SIZES = Search("batch_size", (4, 8, 16))


@pytest.mark.parametrize(
  ("text", "search"),
  [
    ("batch_size=16,32", Search("batch_size", (16, 32))),
    ("optimizer.name=adamw, lamb", Search("optimizer.name", ("adamw", "lamb"))),
    ("config.data.balanced=true,false", Search("data.balanced", (True, False))),
    ("seed=3", Search("seed", (3,))),
    ("model.hidden_dropout=0:0.5", Search("model.hidden_dropout", (), 0, 0.5)),
    (
      "optimizer.learning_rate=1e-5:1e-3:log",
      Search("optimizer.learning_rate", (), 1e-5, 1e-3, True),
    ),
    (
      "finetuning.freeze_layers=0:4",
      Search("finetuning.freeze_layers", (), 0, 4),
    ),
    (
      "init=hf://org/one,hf://org/two",
      Search("init", ("hf://org/one", "hf://org/two")),
    ),
  ],
)
def test_what_is_searched(text, search):
  assert sweep.parse(text) == search


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("seed", "expected KEY=V1,V2 or KEY=LOW:HIGH"),
    ("=1,2", "expected KEY="),
    ("seed=", "expected KEY="),
    ("", "expected KEY="),
    ("a=2:1", "expected two numbers, the lower one first"),
    ("a=1:1", "expected two numbers"),
    ("a=x:y", "expected two numbers"),
    ("a=true:2", "expected two numbers"),
    ("a=0:1:log", "log needs numbers above 0"),
    ("a=NaN:1", "expected two numbers"),
    ("a=0:Infinity", "expected two numbers"),
  ],
)
def test_what_cannot_be_searched_is_said_in_a_line(text, message):
  with user_error(message) as error:
    sweep.parse(text)
  assert str(error.value).startswith(f"--search {text}: ")


@pytest.fixture
def tried(monkeypatch):
  """Each recipe that is tried; larger batches are better, 16 too large."""
  tried = []

  def train(recipe, workdir):
    tried.append((workdir.name, recipe))
    if recipe.batch_size == 16:
      raise DivergedError("the loss is not finite")
    accuracy = recipe.batch_size / 10 - recipe.optimizer.learning_rate
    return {"accuracy": accuracy, "loss": accuracy}

  monkeypatch.setattr(run, "train_recipe", train)
  return tried


def values(rows):
  return [row["config"] for row in sorted(rows, key=lambda row: row["trial"])]


def test_the_best_comes_first_and_what_failed_last(tried, tmp_path, capsys):
  rows = sweep.sweep(CONFIG, tmp_path, [SIZES], 9)
  assert [name for name, _ in tried] == [f"trial_{n}" for n in range(9)]
  assert [recipe.batch_size for _, recipe in tried] == [
    row["batch_size"] for row in values(rows)
  ]
  sizes = [row["config"]["batch_size"] for row in rows]
  assert sizes == sorted(sizes, key=(8, 4, 16).index)
  assert {*sizes} == {4, 8, 16}
  assert rows[0]["metrics"]["accuracy"] == rows[0]["value"]
  assert rows[-1]["value"] is None
  sweep.print_trials(rows, "accuracy")
  assert "failed" in capsys.readouterr().out


def test_a_loss_is_to_fall(tried, tmp_path):
  config = {**CONFIG, "evaluation": {"metric": "loss"}}
  rows = sweep.sweep(config, tmp_path, [SIZES], 9)
  assert rows[0]["config"]["batch_size"] == 4


def test_all_else_is_as_in_the_recipe(tried, tmp_path):
  sweep.sweep(
    CONFIG, tmp_path, [RATES, Search("model.num_layers", (), 1, 3)], 4
  )
  for _, recipe in tried:
    assert 1e-5 <= recipe.optimizer.learning_rate <= 1e-1
    assert recipe.model["num_layers"] in (1, 2, 3)
    assert (recipe.batch_size, recipe.steps) == (4, 3)
  assert len({recipe.optimizer.learning_rate for _, recipe in tried}) == 4
  assert CONFIG["optimizer"] == {"learning_rate": 1e-3}


def test_an_interrupted_search_goes_on_with_the_same_values(
  tried, tmp_path, monkeypatch
):
  whole = sweep.sweep(CONFIG, tmp_path / "whole", [RATES, SIZES], 13)
  train, begun = run.train_recipe, []

  def interrupted(recipe, workdir):
    begun.append(recipe)
    if len(begun) == 12:
      raise Interrupted("asked to stop")
    return train(recipe, workdir)

  monkeypatch.setattr(run, "train_recipe", interrupted)
  with pytest.raises(Interrupted):
    sweep.sweep(CONFIG, tmp_path / "cut", [RATES, SIZES], 13)
  lines = (tmp_path / "cut" / sweep.TRIALS_FILE).read_text().splitlines()
  assert [json.loads(line)["trial"] for line in lines] == [*range(11)]
  rows = sweep.sweep(CONFIG, tmp_path / "cut", [RATES, SIZES], 13)
  assert begun[11] == begun[12]
  assert values(rows) == values(whole)
  # And once it is done, nothing is tried again.
  count = len(begun)
  assert sweep.sweep(CONFIG, tmp_path / "cut", [RATES, SIZES], 13) == rows
  assert len(begun) == count


@pytest.mark.parametrize(
  "searches",
  [
    [RATES],
    [SIZES, RATES],
    [Search("batch_size", (32, 64))],
    [Search("batch_size", (), 100, 200)],
  ],
)
def test_another_search_is_refused(tried, tmp_path, searches):
  message = "has trials of other keys or values; choose another folder"
  sweep.sweep(CONFIG, tmp_path, [SIZES], 2)
  with user_error(message):
    sweep.sweep(CONFIG, tmp_path, searches, 2)


def test_a_trial_that_was_cut_short_is_tried_again(tried, tmp_path):
  rows = sweep.sweep(CONFIG, tmp_path, [SIZES], 3)
  path = tmp_path / sweep.TRIALS_FILE
  path.write_text(path.read_text()[:-9])
  tried.clear()
  assert sweep.sweep(CONFIG, tmp_path, [SIZES], 3) == rows
  assert [name for name, _ in tried] == ["trial_2"]
  assert len(path.read_text().splitlines()) == 3


def test_damaged_trials_are_said_to_be(tried, tmp_path):
  (tmp_path / sweep.TRIALS_FILE).write_text('{"trial": 0, "con\n')
  with user_error(r"trials\.jsonl: damaged"):
    sweep.sweep(CONFIG, tmp_path, [SIZES], 2)


def test_a_search_asks_for_a_measure(tmp_path):
  config = {**CONFIG, "evaluation": {}}
  with user_error(r"evaluation\.metric: missing"):
    sweep.sweep(config, tmp_path, [SIZES], 2)


@pytest.mark.parametrize(
  ("key", "message"),
  [
    ("optimizer.rate", "config.optimizer.rate: unknown key"),
    ("batch_size.a", "--search batch_size.a: config.batch_size is not a secti"),
  ],
)
def test_keys_that_are_not_there_are_named(tried, tmp_path, key, message):
  with user_error(message):
    sweep.sweep(CONFIG, tmp_path, [Search(key, (1, 2))], 2)
  assert not tried


def test_without_optuna_it_says_how_to_get_it(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, "optuna", None)
  with user_error(r"pip install 'bert_jax\[sweep\]'"):
    sweep.sweep(CONFIG, tmp_path, [SIZES], 2)
