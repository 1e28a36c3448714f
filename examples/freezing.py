"""Freezing parameters by their paths.

`python -m examples.freezing MODEL TRAIN.jsonl PATTERN ...` trains only what no
pattern matches; by default the embeddings and the lower half of the layers
stay as they are. In a recipe this is `config.finetuning.freeze`.
"""

import re
import sys

import jax
import numpy as np
import optax

import bert_jax
from bert_jax import trees
from bert_jax.tasks import LABELLED, make
from bert_jax.training.train import train


def main(where: str, records: str, *patterns: str) -> dict[str, float]:
  """Returns by how much each parameter changed, by its path."""
  model = bert_jax.load(where)
  half = "|".join(map(str, range(model.config.num_layers // 2)))
  patterns = patterns or (
    "encoder/embeddings/.*",
    rf"encoder/layer_({half})/.*",
  )
  config = LABELLED["classification"](train=(records,), max_length=64)
  task, data = make(config, model.config, model.tokenizer)
  params = model.with_task(task).params

  def is_frozen(path, _):
    return any(re.fullmatch(pattern, path) for pattern in patterns)

  state, _ = train(
    task,
    data,
    optax.adamw(1e-3),
    steps=10,
    batch_size=16,
    params=params,
    frozen=trees.map_with_path(is_frozen, params),
  )
  changes = jax.tree.map(
    lambda old, new: float(np.abs(old - new).max()), params, state.params
  )
  for path, change in trees.flatten(changes).items():
    print(f"{path}: {change:.2g}")
  return trees.flatten(changes)


if __name__ == "__main__":
  main(*sys.argv[1:])
