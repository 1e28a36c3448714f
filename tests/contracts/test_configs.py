"""Every recipe is one that `launch.train` takes."""

import importlib
import pathlib

import jax
import pytest

from bert_jax import trees
from bert_jax.models import heads
from bert_jax.tasks import TASKS
from bert_jax.training import optimizer
from bert_jax.training.recipe import Recipe
from tests import small

ROOT = pathlib.Path(__file__).parents[2]
RECIPES = [
  path
  for path in sorted((ROOT / "configs").rglob("*.py"))
  if path.name != "__init__.py"
]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_holds_together(path, monkeypatch):
  name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
  module = importlib.import_module(name)
  assert module.__doc__
  assert path.read_text().count("\n") <= 80
  recipe = Recipe.from_dict(module.get_config().to_dict())
  assert Recipe.from_dict(recipe.to_dict()).to_dict() == recipe.to_dict()
  monkeypatch.setattr(
    TASKS[recipe.task], "load_tokenizer", lambda data: small.tokenizer()
  )
  task = recipe.make_task()
  blank = jax.tree.map(lambda x: x[None], task.blank)
  shapes = jax.eval_shape(task.model.init, jax.random.key(0), blank)["params"]
  assert isinstance(task.model, heads.MaskedLanguageModel)
  assert trees.count(shapes) > 0
  rate = optimizer.learning_rate(recipe.optimizer, recipe.steps)
  peak = max(float(rate(step)) for step in range(0, recipe.steps, 97))
  assert peak <= recipe.optimizer.learning_rate * (1 + 1e-6)
  assert peak > 0.5 * recipe.optimizer.learning_rate
