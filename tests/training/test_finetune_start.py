"""What a run goes on from: of an encoder, of a head, of itself."""

import json
import shutil

import numpy as np
import pytest

from bert_jax import trees
from bert_jax.training import run, workdir
from bert_jax.training.mesh import partitioning
from bert_jax.training.recipe import Recipe
from tests import pytrees
from tests.errors import user_error
from tests.tasks import learnable
from tests.tasks.learnable import train
from tests.training.finetune_runs import held_out, recipe


def test_what_is_frozen_stays_to_the_bit(home, tmp_path):
  attention = "encoder/layer_0/attention/"
  freeze = {"freeze": [f"{attention}.*"], "freeze_embeddings": True}
  train(recipe(home, finetuning=freeze), tmp_path)
  before, after = pytrees.load(home / "init"), pytrees.load(tmp_path)
  for path, value in after.items():
    if not path.startswith("encoder/"):
      continue
    same = np.array_equal(value, before[path])
    # Weight decay too leaves frozen parameters alone.
    assert same == path.startswith(("encoder/embeddings/", attention)), path


@pytest.mark.parametrize(
  ("finetuning", "fresh"),
  [
    ({"reinit_layers": 1}, ["encoder/layer_0"]),
    ({"from_scratch": True}, ["encoder/embeddings", "encoder/layer_0"]),
  ],
)
def test_what_begins_anew_has_initial_values(home, finetuning, fresh):
  made = Recipe.from_dict(recipe(home, finetuning=finetuning))
  pretrained = workdir.open_model(home / "init")
  task, _ = made.make_task(pretrained)
  params, new = run.load_params(
    made, task, partitioning.replicated(), pretrained
  )
  assert list(new) == ["classifier", *fresh, "pooler"]
  before, after = pytrees.load(home / "init"), trees.flatten(params)
  for path, value in after.items():
    if not path.startswith(new):
      np.testing.assert_array_equal(value, before[path], err_msg=path)
    elif path.endswith(("kernel", "embedding")):
      # Those of the made-up encoder are of 0.3.
      assert 0.01 < np.std(value) < 0.03, path


def other_labels(home, rename):
  config = recipe(home, "run")
  rows = learnable.records("classification")
  for row in rows:
    row["label"] = rename(row["label"])
  path = learnable.write(home / "renamed.jsonl", rows)
  config["data"] |= {"train": path, "eval": path}
  return config


@pytest.mark.parametrize(
  ("rename", "labels", "fresh"),
  [
    (lambda label: label, ("array", "list", "sorts"), ()),
    # Those of the head stay where they cover the data.
    (lambda label: "list", ("array", "list", "sorts"), ()),
    (str.upper, ("ARRAY", "LIST", "SORTS"), ("classifier",)),
  ],
)
def test_a_classifier_of_the_same_labels_is_gone_on_from(
  home, rename, labels, fresh
):
  made = Recipe.from_dict(other_labels(home, rename))
  pretrained = workdir.open_model(home / "run")
  task, _ = made.make_task(pretrained)
  assert task.targets["label"].labels == labels
  params, anew = pretrained.params(task)
  assert anew == fresh
  before, after = pytrees.load(home / "run"), trees.flatten(params)
  pytrees.assert_equal(
    {path: x for path, x in before.items() if "classifier" not in path},
    {path: x for path, x in after.items() if "classifier" not in path},
  )
  same = np.array_equal(after["classifier/kernel"], before["classifier/kernel"])
  assert same == (not fresh)


def test_what_it_goes_on_from_is_measured_first(home, tmp_path):
  train(recipe(home, "run"), tmp_path)
  first, *_ = held_out(tmp_path)
  assert first["step"] == 0
  for name, value in json.loads((home / "values").read_text()).items():
    assert first[name] == pytest.approx(value, rel=1e-5)


def test_files_may_move_and_evaluations_change(home, tmp_path):
  config = recipe(home, evaluation__every=2, logging__every=3)
  moved = shutil.copy(config["data"]["train"], tmp_path / "moved.jsonl")
  config["data"]["train"] = str(moved)
  _, said = train(config, home / "run")
  assert "nothing to do" in said


@pytest.mark.parametrize(
  ("key", "value", "message"),
  [
    ("batch_size", 2, "config.batch_size: 4 -> 2"),
    ("seed", 1, "config.seed: 0 -> 1"),
    ("data__max_length", 12, "config.data.max_length: 16 -> 12"),
    (
      "data__targets",
      {"label": {"labels": ["sorts", "list", "array"]}},
      "config.data.targets.label",
    ),
    (
      "data__augmentation",
      {"copies": 1, "dropout": 0.1},
      "config.data.augmentation.copies: 0 -> 1",
    ),
    ("finetuning", {"freeze_layers": 1}, "config.finetuning.freeze_layers: 0"),
  ],
)
def test_what_is_learned_may_not_change(home, key, value, message):
  with user_error("has a run with another") as error:
    train(recipe(home, **{key: value}), home / "run")
  assert message in str(error.value)


def test_other_training_records_are_refused(home):
  config = recipe(home)
  rows = learnable.records("classification", seed=5)
  config["data"]["train"] = learnable.write(home / "others.jsonl", rows)
  with user_error("the training data are not those that"):
    train(config, home / "run")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"finetuning": {"freeze_layers": 3}}, "freeze_layers: 3 layers, but the "),
    ({"steps": 0}, "steps: give a number above 0 for either steps or epochs"),
    ({"evaluation__patience": 1}, "evaluation.metric: missing; patience"),
    ({"evaluation__patience": -1}, "evaluation.patience: expected at least"),
    ({"data__eval": "nowhere.jsonl"}, "config.data.eval: .*nowhere.jsonl"),
    (
      {"data__targets": {"label": {"labels": ["list"]}}},
      r"n_train.jsonl:2: label: unknown 'array'",
    ),
    ({"model__num_layers": 3}, "config.model.num_layers: 3, but config.init"),
    ({"batch_size": 0}, "batch_size: expected at least 1, got 0"),
  ],
)
def test_mistakes_are_said_before_anything_is_made(
  home, tmp_path, changes, message
):
  with user_error(message):
    train(recipe(home, **changes), tmp_path)
  assert not (tmp_path / "bert_jax.json").exists()


def test_without_a_model_there_is_nothing_to_fine_tune(home, tmp_path):
  config = learnable.recipe(home, finetuning={"reinit_layers": 1})
  with user_error("config.finetuning: there is no config.init to fine-tune"):
    train(config, tmp_path)
