"""Runs that go on from a model, published or trained here."""

import shutil

import numpy as np
import pytest

import bert_jax
from bert_jax import trees
from bert_jax.training import run, workdir
from tests import pytrees, small
from tests.errors import user_error
from tests.interop import folders
from tests.training.test_loop import make_recipe, prepare, write_text


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  """Encoders without a head, and a corpus of their vocabulary."""
  home = tmp_path_factory.mktemp("init")
  for family in ("bert", "roberta"):
    bert_jax.save(folders.model(family, "embedding"), home / family)
  words = small.WORDS.split()[:-3]
  write_text(home / "text.txt")
  text = (home / "text.txt").read_text()
  for i, made in enumerate(sorted({*text.split()})):
    text = text.replace(made, words[i % len(words)])
  (home / "text.txt").write_text(text)
  prepare(home, vocabulary=str(workdir.vocabulary_of(home / "bert")))
  return home


def recipe(home, init="bert", **changes):
  options = {"task": "masked_lm", "init": str(home / init), "model": {}}
  options |= {"steps": 4, "optimizer__learning_rate": 1e-5}
  return make_recipe(home / "prepared", **(options | changes))


def encoder(model):
  return trees.flatten(bert_jax.load(model, task="embedding").params["encoder"])


@pytest.fixture(scope="module")
def finished(home):
  run.train_recipe(recipe(home), home / "run")
  return home / "run"


def test_it_begins_with_the_models_encoder_and_vocabulary(home, finished):
  before, after = encoder(home / "bert"), encoder(finished)
  for path, value in before.items():
    np.testing.assert_allclose(after[path], value, atol=1e-4, err_msg=path)
  changed = [np.any(after[path] != value) for path, value in before.items()]
  assert sum(changed) > len(changed) / 2
  model = bert_jax.load(finished)
  assert model.task.name == "masked_lm"
  assert model.tokenizer.tokens == small.tokenizer().tokens


def test_it_resumes_without_the_model_that_it_began_with(home, finished):
  shutil.copytree(home / "bert", home / "moved")
  try:
    whole = recipe(home, steps=4)
    shutil.copytree(finished, home / "cut")
    shutil.rmtree(home / "cut" / "checkpoints" / "4")
    shutil.rmtree(home / "bert")
    run.train_recipe(whole, home / "cut")
  finally:
    shutil.copytree(home / "moved", home / "bert", dirs_exist_ok=True)
  pytrees.assert_equal(pytrees.load(home / "cut"), pytrees.load(finished))


def test_another_family_is_gone_on_from(home):
  changes = {"model__hidden_dropout": 0.0, "model__vocab_multiple": 16}
  values = run.train_recipe(
    recipe(home, "roberta", steps=1, **changes), home / "on roberta"
  )
  assert np.isfinite(values["mlm_loss"])
  model = bert_jax.load(home / "on roberta")
  config = model.config
  assert (config.family, config.hidden_dropout) == ("roberta", 0.0)
  assert (config.vocab_size, config.vocab_rows) == (24, 32)
  bert_jax.save(model, home / "published")
  words = "roberta.embeddings.word_embeddings.weight"
  assert folders.tensors(home / "published")[words].shape == (24, 16)


def test_a_run_is_gone_on_from(home, finished):
  pretrained = workdir.open_model(finished)
  task, _ = recipe(home, "run").make_task(pretrained)
  params, fresh = pretrained.params(task)
  assert not fresh
  pytrees.assert_equal(params, pytrees.load(finished))


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"model__hidden_size": 32}, r"config.model.hidden_size: 32, but .* has 1"),
    ({"model__preset": "bert_base"}, "config.model.preset: config.init says"),
    ({"model__hiden": 3}, "config.model.hiden: "),
    ({"init": "nowhere"}, "nowhere: no such file or folder; expected"),
    ({"task": "next_sentence"}, "config.task: unknown 'next_sentence'"),
  ],
)
def test_what_does_not_go_with_a_model_is_refused(
  home, tmp_path, changes, message
):
  with user_error(message):
    run.train_recipe(recipe(home, **changes), tmp_path)
  assert not (tmp_path / workdir.MODEL_FILE).exists()


def test_text_of_another_vocabulary_is_refused(home, tmp_path):
  corpus = prepare(tmp_path, files=(str(home / "text.txt"),), vocab_size=60)
  other = recipe(home, data__corpus=str(corpus))
  message = "its vocabulary is not that of config.init .*bert-jax prepare"
  with user_error(message):
    run.train_recipe(other, tmp_path / "run")


def test_a_saved_model_is_no_run(home, tmp_path):
  model = folders.model("bert", "embedding")
  bert_jax.save(model, tmp_path / "model", format="bert_jax")
  with user_error("has a model and no run; choose another"):
    run.train_recipe(recipe(home), tmp_path / "model")
