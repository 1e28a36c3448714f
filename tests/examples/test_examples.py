"""The examples, each run as its docstring says, on a tiny model."""

import dataclasses
import importlib
import json
import pathlib

import jax
import numpy as np
import optax
import pytest

import bert_jax
from bert_jax.tasks import LABELLED, TASKS, make
from bert_jax.training.train import train
from tests import pytrees, small
from tests.interop import folders
from tests.tasks import learnable

FOLDER = pathlib.Path(__file__).parents[2] / "examples"
NAMES = sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def example(name):
  return importlib.import_module(f"examples.{name}").main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
  folder = tmp_path_factory.mktemp("model") / "bert"
  # Initial values that fit the width, so that a few updates learn something.
  encoder = dataclasses.replace(
    folders.encoder("bert"), initializer_range=0.3, hidden_dropout=0.0
  )
  task = TASKS["classification"].for_published()
  task = task.bind(encoder, small.tokenizer())
  params = jax.jit(task.init_params)(jax.random.key(0))
  bert_jax.save(bert_jax.Model(task, params), folder)
  return str(folder)


@pytest.fixture(scope="module")
def records(tmp_path_factory):
  rows = learnable.records("classification", 40)
  return learnable.write(tmp_path_factory.mktemp("data") / "train.jsonl", rows)


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_short_and_says_how_it_is_run(name):
  module = importlib.import_module(f"examples.{name}")
  assert f"python -m examples.{name} " in module.__doc__
  lines = (FOLDER / f"{name}.py").read_text().count("\n")
  assert lines <= 60


def test_every_example_is_run_here():
  tested = {name for name in NAMES if f'example("{name}")' in SOURCE}
  assert tested == {*NAMES}


def test_hidden_states(model):
  weights = example("hidden_states")(model, "the array sorts names")
  assert weights.shape[:2] == (2, 2)
  np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-5)


def test_own_loss(model, records):
  assert 0 <= example("own_loss")(model, records, steps=3)["accuracy"] <= 1


def test_own_loop_ends_where_train_ends(model, records):
  got = example("own_loop")(model, records, steps=5)
  loaded = bert_jax.load(model)
  config = LABELLED["classification"](train=(records,), max_length=64)
  task, data = make(config, loaded.config, loaded.tokenizer)
  state, _ = train(
    task,
    data,
    optax.adamw(1e-3),
    steps=5,
    batch_size=16,
    params=loaded.with_task(task).params,
  )
  pytrees.assert_equal(got, state.params)


def test_new_head(model, records):
  assert "accuracy" in example("new_head")(model, records, steps=3)


def test_freezing(model, records):
  changes = example("freezing")(model, records)
  for path, change in changes.items():
    is_frozen = path.startswith(("encoder/embeddings/", "encoder/layer_0/"))
    assert (change == 0) == is_frozen, path


def test_gradients_of_single_examples(model):
  texts = ["the array sorts names", "a list"]
  saliency, norms = example("gradients")(model, *texts)
  assert saliency.shape == (2, 16)
  # A text alone gives the same; padding has no influence.
  alone, norm = example("gradients")(model, texts[1])
  np.testing.assert_allclose(saliency[1], alone[0], rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(norms[1], norm[0], rtol=1e-4)
  assert (saliency[1, 4:] == 0).all()


def test_embed_file(model, tmp_path):
  texts = [f"the list {n}" for n in range(10)]
  (tmp_path / "texts.txt").write_text("\n".join(texts) + "\n")
  vectors = example("embed_file")(
    model, str(tmp_path / "texts.txt"), str(tmp_path / "vectors.npy")
  )
  expected = bert_jax.load(model).embed(texts)
  np.testing.assert_array_equal(np.asarray(vectors), expected)


def test_new_task(model, tmp_path):
  words = ["list", "array", "sorts", "names", "place"]
  rows = [
    {"text": f"{'the ' * count}{word} is in it", "label": rating}
    for rating, word in enumerate(words, 1)
    for count in range(1, 9)
  ]
  (tmp_path / "ratings.jsonl").write_text("\n".join(map(json.dumps, rows)))
  path = str(tmp_path / "ratings.jsonl")
  trained, metrics = example("new_task")(model, path, steps=60, rate=1e-2)
  assert metrics["mae"] < 0.6  # A constant answer is off by 1.2.
  assert trained("the place is in it") > trained("the list is in it") + 1


SOURCE = pathlib.Path(__file__).read_text()
