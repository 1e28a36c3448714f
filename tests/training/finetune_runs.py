"""An encoder, a run on top of it, and recipes for more of them."""

import json

import jax

import bert_jax
from bert_jax.model import Model
from bert_jax.models.config import encoder_config
from bert_jax.tasks import MASKED_LM
from bert_jax.training.logging import read_metrics
from tests import pytrees, small
from tests.tasks import learnable
from tests.tasks.learnable import train

# Of 12 records in batches of 4.
EPOCH = 3


def make(home):
  size = len(small.tokenizer())
  config = {**learnable.MODEL, "num_layers": 1, "vocab_size": size}
  task = MASKED_LM.bind(encoder_config(config), small.tokenizer())
  model = Model(task, jax.device_put(pytrees.of_task(task)))
  bert_jax.save(model, home / "init", format="bert_jax")
  values, said = train(every_step(recipe(home)), home / "run")
  (home / "said").write_text(said)
  (home / "values").write_text(json.dumps(values))


def recipe(home, init="init", **changes):
  options = {"init": str(home / init), "model": {}, "steps": 2 * EPOCH}
  return learnable.recipe(home, **(options | changes))


def held_out(workdir):
  return [r for r in read_metrics(workdir) if r["split"] == "eval"]


def every_step(config):
  """The same with all checkpoints kept."""
  return {**config, "checkpoint": {"every": 1, "keep": 9}}


def steps(rows):
  return [row["step"] for row in rows]
