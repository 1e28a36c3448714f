"""Runs whose model learns from a teacher."""

import json
import shutil

import jax
import numpy as np
import pytest

import bert_jax
from bert_jax.checkpointing import parameters
from bert_jax.data import grouping
from bert_jax.tasks import MASKED_LM
from bert_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece
from bert_jax.training import run, workdir
from bert_jax.training.distillation.config import TeacherConfig
from bert_jax.training.distillation.teacher import Teacher, open_models
from bert_jax.training.logging import read_metrics
from bert_jax.training.mesh import partitioning
from tests import pytrees, small
from tests.errors import user_error
from tests.tasks import cases, learnable
from tests.tasks.learnable import train
from tests.training import test_loop

TERMS = ("gold", "soft", "hidden", "relations")
STEPS = 4


def student(home, **teacher):
  """A recipe of a wider student, from initial values."""
  return learnable.recipe(
    home,
    model={**learnable.MODEL, "hidden_size": 24, "num_heads": 3},
    steps=STEPS,
    teacher={
      "models": str(home / "run"),
      "hidden": 1.0,
      "relations": 1.0,
      **teacher,
    },
    checkpoint={"every": 2, "keep": 9},
  )


@pytest.fixture(scope="module")
def distilled(home, tmp_path_factory):
  folder = tmp_path_factory.mktemp("distilled") / "run"
  train(student(home), folder)
  return folder


def training_logs(folder):
  return [x for x in read_metrics(folder) if x["split"] == "train"]


def test_a_student_is_an_ordinary_model(home, distilled):
  for row in training_logs(distilled):
    assert all(row[f"{name}_loss"] > 0 for name in TERMS)
  saved = parameters.saved_paths(distilled / workdir.CHECKPOINTS / str(STEPS))
  assert "distillation/projection/kernel" in saved
  model = bert_jax.load(distilled)
  assert model.params.keys() == {"encoder", "pooler", "classifier"}
  teacher = bert_jax.load(home / "run").task.targets["label"]
  assert model.task.targets["label"].labels == teacher.labels


def test_a_resumed_student_is_the_same_to_the_bit(home, distilled, tmp_path):
  shutil.copytree(distilled, tmp_path / "run")
  last = f"{workdir.CHECKPOINTS}/{STEPS}"
  shutil.rmtree(tmp_path / "run" / last)
  _, said = train(student(home), tmp_path / "run")
  assert "resuming at step 2 of 4" in said
  pytrees.assert_equal(pytrees.load(distilled), pytrees.load(tmp_path / "run"))
  one, other = (
    training_logs(folder)[-1] for folder in (distilled, tmp_path / "run")
  )
  # It depends on the projection, which is no part of the model.
  assert one["hidden_loss"] == other["hidden_loss"]


def test_a_cached_teacher_teaches_the_same(
  home, distilled, tmp_path, monkeypatch
):
  # In steps it computes nothing.
  monkeypatch.setattr(Teacher, "__call__", None)
  train(student(home, cache=str(tmp_path / "cache")), tmp_path / "run")
  for one, other in zip(
    training_logs(distilled), training_logs(tmp_path / "run"), strict=True
  ):
    for name in TERMS:
      name = f"{name}_loss"
      assert one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-6)


def test_probabilities_of_several_teachers_are_averaged(tmp_path):
  task = cases.task("classification")
  batch = grouping.pad(
    task.preprocess({"text": "the list", "label": "LABEL_0"}, labelled=True)
  )
  layout, found = partitioning.replicated(), []
  for seed in (0, 1):
    workdir.save(task, pytrees.of_task(task, seed), tmp_path / str(seed))
  for members in ("0", "1", "01"):
    config = TeacherConfig(tuple(str(tmp_path / name) for name in members))
    models = open_models(config, "classification")
    teacher = Teacher.load(config, models, task, layout)
    outputs = teacher.outputs(batch)["teacher/outputs/label"]
    found.append(np.array(jax.nn.softmax(outputs)))
  np.testing.assert_allclose((found[0] + found[1]) / 2, found[2], rtol=1e-5)


def test_an_encoder_without_heads_teaches_its_features(tmp_path):
  config = TeacherConfig(save(tmp_path), soft=0.0, hidden=1.0, relations=1.0)
  task = cases.task("classification")
  teacher = Teacher.load(
    config,
    open_models(config, task.name),
    task,
    partitioning.replicated(),
  )
  batch = grouping.pad(task.preprocess({"text": "the list"}))
  shapes = {name: x.shape for name, x in teacher.outputs(batch).items()}
  length = batch.token_ids.shape[-1]
  assert shapes == {
    "teacher/hidden_states": (1, 2, 16, length),
    "teacher/relations": (1, 3, 16, length),
  }


def test_with_its_teachers_weights_a_student_has_no_loss(
  finished, corpus_folder, tmp_path
):
  teacher, _ = finished
  made = test_loop.make_recipe(
    corpus_folder,
    init=str(teacher),
    model__hidden_dropout=0.0,
    model__attention_dropout=0.0,
    steps=1,
    accumulation=2,
    teacher__models=str(teacher),
    teacher__gold=0.0,
    teacher__hidden=1.0,
    teacher__relations=1.0,
  )
  run.train_recipe(made, tmp_path)
  (row,) = training_logs(tmp_path)
  found = {name: x for name, x in row.items() if name.endswith("_loss")}
  assert found.keys() == {
    "masked_lm_soft_loss",
    "next_sentence_soft_loss",
    "hidden_loss",
    "relations_loss",
  }
  assert max(map(abs, found.values())) < 1e-5


def save(folder, tokenizer=None):
  """Saves a masked language model."""
  task = MASKED_LM.bind(cases.ENCODER, tokenizer or small.tokenizer())
  workdir.save(task, pytrees.of_task(task), folder)
  return str(folder)


@pytest.mark.parametrize(
  ("teacher", "message"),
  [
    ({"models": ()}, "config.teacher.models: missing; the other keys need"),
    ({"soft": 0.0, "hidden": 0.0, "relations": 0.0}, "teacher.soft: expected"),
    ({"temperature": 0.0}, "config.teacher.temperature: expected above 0"),
    ({"gold": -1.0}, "config.teacher.gold: expected at least 0"),
    (
      {"hidden": 0.0, "layers": (1,)},
      "layers: go with a weight of hidden abov",
    ),
    ({"layers": (1, 2)}, "layers: expected 1 numbers, one for each layer"),
    ({"models": ("a", "b")}, "hidden and relations need one teacher, got 2"),
    ({"models": "/nowhere"}, "config.teacher.models: "),
  ],
)
def test_wrong_settings(home, tmp_path, teacher, message):
  with user_error(message):
    train(student(home, **teacher), tmp_path)


def test_a_teacher_that_does_not_fit_is_refused(home, tmp_path):
  where = save(tmp_path / "other", WordPiece([*SPECIAL_TOKENS, "the", "list"]))
  with user_error(f"teacher.models: the vocabulary of {where} is not the"):
    train(student(home, models=where), tmp_path / "run")
  where = save(tmp_path / "same")
  with user_error(f"{where} has no classifier, pooler for the task classifica"):
    train(student(home, models=where), tmp_path / "run")
  config = student(home)
  config["data"]["targets"] = {"label": {"labels": learnable.KINDS[::-1]}}
  labels = "array, list, sorts, but of the student sorts, array, list"
  with user_error(f"label of {home / 'run'} is {labels}"):
    train(config, tmp_path / "run")
  config = learnable.recipe(
    home, "embedding", teacher={"models": [where, where]}
  )
  with user_error("similarity of several models cannot be averaged; name one"):
    train(config, tmp_path / "run")


def test_another_teacher_in_its_place_is_noticed(home, distilled, tmp_path):
  shutil.copytree(distilled, tmp_path / "run")
  config = student(home)
  entry = json.loads((tmp_path / "run" / workdir.MODEL_FILE).read_text())
  entry["run"]["data"] = entry["run"]["data"][:-1]
  (tmp_path / "run" / workdir.MODEL_FILE).write_text(json.dumps(entry))
  with user_error("that the run started with, or the teacher is another"):
    train(config, tmp_path / "run")
