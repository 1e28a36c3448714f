"""An encoder, a run on top of it, and recipes for more of them."""

import json
import zlib

import jax
import numpy as np

import bert_jax
from bert_jax import trees
from bert_jax.model import Model
from bert_jax.models.config import encoder_config
from bert_jax.tasks import MASKED_LM
from bert_jax.training.logging import read_metrics
from bert_jax.training.train import init_params
from tests import small
from tests.tasks import learnable
from tests.tasks.learnable import train

# Of 12 records in batches of 4.
EPOCH = 3


def shared_home(tmp_path_factory):
  """An encoder, and a run of two epochs whose every step is kept.

  All modules have the same, for compiling the run takes long.
  """
  home = tmp_path_factory.getbasetemp() / "finetune_runs"
  if not home.exists():
    home.mkdir()
    _make(home)
  return home


def _make(home):
  size = len(small.tokenizer())
  config = {**learnable.MODEL, "num_layers": 1, "vocab_size": size}
  task = MASKED_LM.bind(encoder_config(config), small.tokenizer())
  model = Model(task, jax.device_put(_random_params(task)))
  bert_jax.save(model, home / "init", format="bert_jax")
  values, said = train(every_step(recipe(home)), home / "run")
  (home / "said").write_text(said)
  (home / "values").write_text(json.dumps(values))


def _random_params(task):
  """Far enough from zero that predictions differ; nothing is compiled."""

  def draw(path, shape):
    generator = np.random.default_rng(zlib.crc32(path.encode()))
    return generator.normal(0, 0.3, shape.shape).astype(np.float32)

  shapes = jax.eval_shape(lambda: init_params(task))
  return trees.map_with_path(draw, shapes)


def recipe(home, init="init", **changes):
  options = {
    "init": str(home / init),
    "model": {},
    "steps": 2 * EPOCH,
  }
  return learnable.recipe(home, **(options | changes))


def params_of(workdir):
  return trees.flatten(bert_jax.load(workdir).params)


def held_out(workdir):
  return [r for r in read_metrics(workdir) if r["split"] == "eval"]


def every_step(config):
  """The same with all checkpoints kept."""
  return {**config, "checkpoint": {"every": 1, "keep": 9}}


def steps(rows):
  return [row["step"] for row in rows]


def assert_equal(one, other):
  assert one.keys() == other.keys()
  for path, value in one.items():
    np.testing.assert_array_equal(value, other[path], err_msg=path)
