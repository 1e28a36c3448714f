"""Training with a loss of one's own: focal loss for a classification.

`python -m examples.own_loss MODEL TRAIN.jsonl` trains on records with `text`
and `label`. The loss is that of Lin et al. (2017, arXiv:1708.02002), which
weights hard examples more.
"""

import sys

import jax.numpy as jnp
import optax

import bert_jax
from bert_jax.tasks import LABELLED, make
from bert_jax.tasks.targets import losses
from bert_jax.training.train import train

GAMMA = 2.0


def focal_loss(outputs, batch):
  """Cross-entropy times (1 - p) to the power of GAMMA, as a weighted mean."""
  logits, labels = outputs["classifier"], batch.targets["label/labels"]
  values = losses.cross_entropy(logits, labels)
  hardness = (1 - jnp.exp(-values)) ** GAMMA
  weights = batch.targets["label/weights"]
  return {"focal_loss": losses.mean(hardness * values, weights)}


def main(where: str, records: str, steps: int = 100) -> dict[str, float]:
  """Returns the metrics on a tenth of the records."""
  model = bert_jax.load(where)
  config = LABELLED["classification"](train=(records,), max_length=64)
  task, data = make(config, model.config, model.tokenizer)
  _, metrics = train(
    task,
    data,
    optax.adamw(1e-3),
    steps=int(steps),
    batch_size=16,
    params=model.with_task(task).params,
    loss=focal_loss,
  )
  print(metrics)
  return metrics


if __name__ == "__main__":
  main(*sys.argv[1:])
