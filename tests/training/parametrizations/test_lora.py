"""Runs that train adapters in place of the encoder."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

import bert_jax
from bert_jax import trees
from bert_jax.checkpointing import parameters
from bert_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece
from bert_jax.training import run, workdir
from bert_jax.training.parametrizations import parametrization
from bert_jax.training.parametrizations.lora import LoraConfig
from bert_jax.training.parametrizations.parametrization import Parametrized
from bert_jax.training.recipe import Recipe
from tests import pytrees, small
from tests.errors import user_error
from tests.tasks import cases
from tests.tasks.learnable import train
from tests.training.finetune_runs import recipe

CONFIG = LoraConfig(rank=2, alpha=4.0, targets=(r"encoder/.*/query/kernel",))
PARTS = (CONFIG.parametrization(small.ENCODER),)


def adapted():
  model = cases.model("classification")
  module = Parametrized(model.task.module, PARTS)
  params = dict(model.params)
  shapes = PARTS[0].shapes(params)
  rng = np.random.default_rng(0)
  params["lora"] = jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes
  )
  return model, module, params


def test_adapters_are_added_to_the_kernels_that_match():
  model, module, params = adapted()
  merged = trees.flatten(parametrization.merge(params, PARTS))
  before = trees.flatten(model.params)
  assert merged.keys() == before.keys()
  for path, value in merged.items():
    if "/query/kernel" in path:
      own = trees.flatten(params)
      product = own[f"lora/{path}/a"] @ own[f"lora/{path}/b"]
      np.testing.assert_allclose(value, before[path] + 2 * product, rtol=1e-5)
    else:
      np.testing.assert_array_equal(value, before[path])
  batch = model.task.dummy_batch
  batch = jax.tree.map(lambda x: np.asarray(x)[None], batch)
  outputs = module.apply({"params": params}, batch)
  plain = model.module.apply(
    {"params": parametrization.merge(params, PARTS)}, batch
  )
  jax.tree.map(np.testing.assert_array_equal, outputs, plain)


def test_at_first_an_adapted_model_is_the_model():
  model, module, _ = adapted()
  task = dataclasses.replace(model.task, wrap=lambda _: module)
  params = task.init_params(jax.random.key(1))
  own = {name: x for name, x in params.items() if name != "lora"}
  pytrees.assert_equal(
    trees.flatten(parametrization.merge(params, PARTS)), trees.flatten(own)
  )


def test_a_run_trains_adapters_and_the_head_and_is_loaded_merged(
  home, tmp_path
):
  config = recipe(home, lora=dataclasses.asdict(CONFIG))
  train(config, tmp_path)
  (saved,) = [parameters.best_folder(tmp_path / workdir.CHECKPOINTS)]
  paths = parameters.saved_paths(saved)
  assert any(path.startswith("lora/encoder/") for path in paths)
  before, after = pytrees.load(home / "init"), pytrees.load(tmp_path)
  for path, value in after.items():
    if path.startswith("encoder/"):
      same = np.array_equal(value, before[path])
      assert same != ("/query/kernel" in path), path
  # Loaded, it is an ordinary model, which another run begins with.
  model = bert_jax.load(tmp_path)
  assert "lora" not in model.params
  bert_jax.save(model, tmp_path / "converted", "huggingface")
  again = bert_jax.load(tmp_path / "converted")
  assert again("the array") == model("the array")
  # So it is beside its base, and as a folder of peft.
  base = bert_jax.load(home / "init")
  assert workdir.adapted(tmp_path) == str(home / "init")
  beside = base.with_adapter(tmp_path)
  bert_jax.save(beside, tmp_path / "adapter", "peft")
  expected = trees.flatten(model.params)
  for other in (beside.in_float32(), bert_jax.load(tmp_path / "adapter")):
    assert other.task.state() == model.task.state()
    params = trees.flatten(other.params)
    assert params.keys() == expected.keys()
    for path, value in params.items():
      np.testing.assert_allclose(value, expected[path], atol=1e-6)
  files = (tmp_path / "adapter").iterdir()
  assert sum(path.stat().st_size for path in files) < 12_000
  with user_error("an adapter for a model with another vocabulary"):
    other = base.task.bind(base.config, WordPiece([*SPECIAL_TOKENS, "a"]))
    dataclasses.replace(base, task=other).with_adapter(tmp_path)
  made = Recipe.from_dict(recipe(home, init=str(tmp_path)))
  task, _ = made.make_task(workdir.open_model(tmp_path))
  assert "lora" not in run.train_lib.param_shapes(task)


def test_checkpoints_may_leave_out_what_is_frozen(home, tmp_path):
  init, whole, small = (tmp_path / name for name in ("init", "whole", "small"))
  shutil.copytree(home / "init", init)
  config = recipe(home, lora=dataclasses.asdict(CONFIG), init=str(init))
  config["checkpoint"] = {"every": 0, "keep": 9}
  train(config, whole)
  config["checkpoint"]["frozen"] = False
  train(config, small)
  last = parameters.best_folder(small / workdir.CHECKPOINTS)
  saved = parameters.saved_paths(last)
  assert any(path.startswith("lora/encoder/") for path in saved)
  assert not any(path.startswith("encoder/") for path in saved)
  # Interrupted and resumed, it is the same run.
  shutil.rmtree(last)
  _, said = train(config, small)
  assert "resuming at step 3" in said
  pytrees.assert_equal(pytrees.load(small), pytrees.load(whole))
  # Another model in the place of that which it started from.
  shutil.rmtree(init)
  with user_error("its config.init .*init: no such file"):
    bert_jax.load(small)
  model = bert_jax.load(home / "init")
  params = jax.tree.map(lambda x: x + 1, model.params)
  other = dataclasses.replace(model, params=params)
  bert_jax.save(other, init, "bert_jax")
  with user_error("init is not the model that the run started from"):
    bert_jax.load(small)
  with user_error("ema.decay: averaged; checkpoint.frozen=False needs"):
    train({**config, "ema": {"decay": 0.9}}, tmp_path / "x")


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"rank": -1}, "rank: expected at least 0"),
    ({"rank": 1, "alpha": 0}, "alpha: expected above 0"),
    ({"rank": 1, "targets": ("none",)}, "'none' matches no parameter"),
    ({"rank": 1, "targets": (".*/bias",)}, "expected kernels of dense layers"),
  ],
)
def test_wrong_settings(home, tmp_path, changes, message):
  with user_error(message):
    train(recipe(home, lora=changes), tmp_path)
