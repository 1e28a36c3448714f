"""Small models with random parameters, and their saved folders."""

import dataclasses
import functools
import json
import pathlib

import jax
import numpy as np
import safetensors.numpy

from bert_jax import trees
from bert_jax.model import Model
from bert_jax.models.config import encoder_config
from bert_jax.tasks import TASKS
from bert_jax.tasks.targets.labels import LabelledTarget
from tests import pytrees, small

# One preset of each family, at a small size.
PRESETS = {
  "bert": "bert_base",
  "roberta": "roberta_base",
  "xlm-roberta": "xlm_roberta_base",
  "distilbert": "distilbert_base",
  "electra": "electra_small",
  "albert": "albert_base",
  "modernbert": "modernbert_base",
  "mpnet": "mpnet_base",
  "deberta-v2": "deberta_v3_base",
}


# Settings that files state even where they are the defaults.
SETTINGS = {
  "embedding": {"pooling": ("mean",)},
  "multi_label": {"thresholds": (0.25, 0.5)},
}


def encoder(family):
  wide = family in ("electra", "albert")
  return encoder_config(
    {
      "preset": PRESETS[family],
      "vocab_size": len(small.tokenizer()),
      "hidden_size": 16,
      "num_layers": 2,
      "num_heads": 2,
      "intermediate_size": 32,
      "max_positions": 32,
      "embedding_size": 8 if wide else 0,
    }
  )


def _settings(task, target):
  has_labels = isinstance(target, LabelledTarget)
  labels = {"labels": target.names} if has_labels else {}
  return labels | SETTINGS.get(task, {})


@functools.cache
def model(family, task):
  """A model of that family and head, without compiling anything."""
  made = TASKS[task].for_published()
  named = {
    name: dataclasses.replace(target, **_settings(task, target))
    for name, target in made.targets.items()
  }
  made = made.with_targets({**made.targets, **named})
  made = made.bind(encoder(family), small.tokenizer())
  return Model(made, jax.device_put(pytrees.of_task(made, scale=0.2)))


def tensors(folder):
  return safetensors.numpy.load_file(folder / "model.safetensors")


def change_tensors(folder, change):
  """Rewrites a folder's tensors; `change` maps the old to the new."""
  changed = change(tensors(folder))
  safetensors.numpy.save_file(
    changed, folder / "model.safetensors", metadata={"format": "pt"}
  )


def change_config(folder: pathlib.Path, **changes):
  path = folder / "config.json"
  config = json.loads(path.read_text()) | changes
  path.write_text(json.dumps({k: v for k, v in config.items() if v != "gone"}))


def assert_same(a: Model, b: Model):
  """Compares two models bit for bit."""
  assert a.task.state() == b.task.state()
  assert dataclasses.asdict(a.config) == dataclasses.asdict(b.config)
  ours, theirs = trees.flatten(a.params), trees.flatten(b.params)
  assert ours.keys() == theirs.keys()
  for path, leaf in ours.items():
    assert np.asarray(leaf).tobytes() == np.asarray(theirs[path]).tobytes()
