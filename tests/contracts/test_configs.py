"""Every recipe is one that `launch.train` takes."""

import importlib
import pathlib
import types as types_lib

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.text import super_glue

from bert_jax import predictor, tasks, trees
from bert_jax.tasks import LABELLED, CorpusDataConfig
from bert_jax.training.optim import optimizer
from bert_jax.training.recipe import Recipe
from configs.finetune import glue
from launch import recipes
from tests import small
from tests.tasks import learnable

ROOT = pathlib.Path(__file__).parents[2]
PATHS = [
  path
  for path in sorted((ROOT / "configs").rglob("*.py"))
  if path.name not in ("__init__.py", "common.py")
] + [ROOT / "examples" / "speech" / "encoder.py"]


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


def test_a_recipe_makes_its_task_and_measures_its_metric(
  config, monkeypatch, tmp_path
):
  metric = Recipe.from_dict(config).evaluation.metric
  task, data = make_task(config, monkeypatch, tmp_path)
  shapes = jax.eval_shape(task.init_params, jax.random.key(0))
  assert trees.count(shapes) > 0
  if isinstance(Recipe.from_dict(config).data_config(), CorpusDataConfig):
    return
  evaluation = data.evaluation()

  def measured(params, batch):
    return task.measured(task.module.apply({"params": params}, batch), batch)

  def forward(batch):
    outputs = jax.eval_shape(measured, shapes, batch)
    return jax.tree.map(lambda x: np.ones(x.shape, x.dtype), outputs)

  predictions = predictor.predict(
    task,
    forward,
    evaluation.records,
    evaluation.examples,
    64,
    evaluation.length_buckets,
    **task.evaluation_options,
  )
  assert metric in task.evaluate(evaluation.records, predictions)


def make_task(config, monkeypatch, folder):
  """The task and its data, on small files in place of its own."""
  name = config.get("task", "pretraining")
  if name == "multi_task":
    for section in config["data"]["tasks"].values():
      use_files(section, section["task"], folder)
  elif name in LABELLED:
    use_files(config["data"], name, folder)
  if name == "multi_task" or name in LABELLED:
    # In place of config.init, with room for targets.
    config["model"] = {**learnable.MODEL, "max_positions": 512}
  monkeypatch.setattr(tasks, "load_tokenizer", lambda data: small.tokenizer())
  return Recipe.from_dict(config).make_task()


def use_files(section, name, folder):
  targets = section.get("targets", {})
  similar = targets.get("similarity", {}).get("objective") == "similarity"
  rows = learnable.records(name)
  for number, row in enumerate(rows):
    if name == "classification":  # Two labels, as in most tasks of GLUE.
      row["label"] = str(number % 2)
    if similar:
      row["label"] = number % 6
  path = learnable.write(folder / f"{name}.jsonl", rows)
  for key in ("format", "dataset", "columns"):
    section.pop(key, None)
  section |= {"train": path, "eval": path}


class NoDownloads:
  """A download manager of TFDS that finds every file in an empty folder."""

  def download(self, urls):
    return dict.fromkeys(urls, "") if isinstance(urls, dict) else ""

  download_and_extract = download


@pytest.mark.parametrize("name", glue.ARGUMENTS)
def test_what_glue_names_is_what_tfds_has(name, tmp_path, monkeypatch):
  # Some features of SuperGLUE are given as types of TensorFlow.
  types = types_lib.SimpleNamespace(int32=np.int32)
  monkeypatch.setattr(super_glue, "tf", types)
  data = glue.get_config(name).data
  builder = tfds.builder(data.dataset, data_dir=tmp_path)
  splits = {
    str(split.name) for split in builder._split_generators(NoDownloads())
  }
  assert {data.train, data.eval} <= splits
  assert data.train != data.eval
  for feature in ("label", *data.columns.values()):
    outer, _, inner = feature.partition(".")
    found = builder.info.features[outer]
    assert not inner or inner in found.languages


def test_a_recipe_is_found_from_any_folder_and_imports_its_neighbours(
  monkeypatch, tmp_path
):
  monkeypatch.chdir(tmp_path)
  found = recipes.load("configs/finetune/glue.py:mnli")
  assert found.data.dataset == "glue/mnli"
  # A file of the working directory comes first, and it is read anew each time.
  own = tmp_path / "configs" / "finetune"
  own.mkdir(parents=True)
  for name in ("finetune/__init__.py", "__init__.py"):
    (tmp_path / "configs" / name).touch()
  for steps in (1, 2):
    (own / "common.py").write_text(f"STEPS = {steps}\n")
    (own / "glue.py").write_text(OWN)
    assert recipes.load("configs/finetune/glue.py").to_dict() == {
      "steps": steps
    }


OWN = """
from ml_collections import ConfigDict
from .common import STEPS

def get_config():
  return ConfigDict({"steps": STEPS})
"""


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("def get_config(:", r"own\.py:1: syntax error"),
    ("", r"own\.py: .*get_config"),
    ("def get_config():\n  return 1 / 0", r"own\.py:2: division by zero"),
    ("def get_config():\n  return 3", "must return .* ConfigDict, got int"),
    (None, r"finetune/gleu\.py: no such file; did you mean .*glue\.py"),
  ],
)
def test_a_mistake_in_a_recipe_is_located(tmp_path, text, message):
  path = tmp_path / "own.py"
  path.write_text(text or "")
  name = "configs/finetune/gleu.py" if text is None else str(path)
  with pytest.raises(recipes.RecipeError, match=message):
    recipes.load(name)
