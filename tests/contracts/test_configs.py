"""Every recipe is one that `launch.train` takes."""

import importlib
import pathlib

import jax
import numpy as np
import pytest

from bert_jax import trees
from bert_jax.models import heads
from bert_jax.tasks import TASKS, answering, mixed
from bert_jax.training.optim import optimizer
from bert_jax.training.recipe import Recipe
from tests import small
from tests.tasks import learnable

ROOT = pathlib.Path(__file__).parents[2]
PATHS = [
  path
  for path in sorted((ROOT / "configs").rglob("*.py"))
  if path.name != "__init__.py"
]


def module_of(path):
  name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
  return importlib.import_module(name)


# A recipe may take an argument, as `glue.py:sst2` the name of a data set.
RECIPES = {
  ":".join([path.stem, *given]): (path, given)
  for path in PATHS
  for given in (
    [[name] for name in module_of(path).ARGUMENTS]
    if hasattr(module_of(path), "ARGUMENTS")
    else [[]]
  )
}


@pytest.fixture(params=RECIPES)
def config(request):
  path, given = RECIPES[request.param]
  return module_of(path).get_config(*given).to_dict()


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_recipe_is_a_lab_note(path):
  assert module_of(path).__doc__
  assert path.read_text().count("\n") <= 80


def test_a_recipe_holds_together(config):
  recipe = Recipe.from_dict(config)
  assert Recipe.from_dict(recipe.to_dict()).to_dict() == recipe.to_dict()
  recipe = recipe.planned(batches_per_epoch=100)
  rate = optimizer.learning_rate(recipe.optimizer, recipe.steps)
  steps = range(0, recipe.steps, 1 + recipe.steps // 500)
  peak = max(float(rate(step)) for step in steps)
  assert peak <= recipe.optimizer.learning_rate * (1 + 1e-6)
  assert peak > 0.5 * recipe.optimizer.learning_rate


def test_a_recipe_makes_its_task_and_measures_what_it_follows(
  config, monkeypatch, tmp_path
):
  metric = Recipe.from_dict(config).evaluation.metric
  task = make_task(config, monkeypatch, tmp_path)
  blank = jax.tree.map(lambda x: x[None], task.blank)
  shapes = jax.eval_shape(task.model.init, jax.random.key(0), blank)["params"]
  assert trees.count(shapes) > 0
  is_pretraining = isinstance(task.model, heads.MaskedLanguageModel)
  assert is_pretraining == (task.score is None)
  assert metric or is_pretraining
  if is_pretraining:
    return
  held_out = task.data.evaluation()

  def forward(batch):
    outputs = jax.eval_shape(task.model.apply, {"params": shapes}, batch)
    return jax.tree.map(lambda x: np.ones(x.shape, x.dtype), outputs)

  answers = answering.answers(
    task, held_out.records, held_out.examples, forward, 64, **task.scoring
  )
  assert metric in task.score(task.head, answers, held_out.records)


def make_task(config, monkeypatch, folder):
  """The task, on small files in place of its own."""
  if config.get("task") == "mixed":
    for section in config["data"]["tasks"].values():
      use_files(section, section["task"], folder)
  elif config.get("task") in mixed.PARTS:
    use_files(config["data"], config["task"], folder)
  if TASKS[config.get("task", "pretraining")] in mixed.PARTS.values():
    config["model"] = learnable.MODEL  # Else that of config.init.
  recipe = Recipe.from_dict(config)
  module = TASKS[recipe.task]
  monkeypatch.setattr(module, "load_tokenizer", lambda data: small.tokenizer())
  return recipe.make_task()


def use_files(section, name, folder):
  rows = learnable.records(name)
  for number, row in enumerate(rows):
    if name == "classification":  # Of two labels, as most in GLUE.
      row["label"] = str(number % 2)
    if section.get("objective") == "similarity":
      row["label"] = number % 6
  path = learnable.write(folder / f"{name}.jsonl", rows)
  for key in ("format", "dataset", "columns"):
    section.pop(key, None)
  section |= {"train": path, "eval": path}
