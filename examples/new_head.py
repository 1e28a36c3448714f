"""A head of one's own: attention pooling for a classification.

`python -m examples.new_head MODEL TRAIN.jsonl` trains a classifier that looks
at all tokens by learned weights, and not at the pooler's vector. The target
stays as it is but for its head.
"""

import dataclasses
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import bert_jax
from bert_jax.tasks import TASKS, make
from bert_jax.tasks.labelled import config_class
from bert_jax.tasks.targets.class_label import ClassLabel
from bert_jax.training.train import train


class AttentionPooling(nn.Module):
  """Logits from the average of tokens, weighted by a learned query."""

  features: int

  @nn.compact
  def __call__(self, encoded):
    scores = nn.Dense(1, name="query")(encoded.hidden)[..., 0]
    scores = jnp.where(encoded.batch.sequence_ids > 0, scores, -1e30)
    weights = jax.nn.softmax(scores, axis=-1)
    pooled = jnp.einsum("...t,...th->...h", weights, encoded.hidden)
    return nn.Dense(self.features, name="output")(encoded.dropout(pooled))


@dataclasses.dataclass(frozen=True)
class PooledLabel(ClassLabel):
  """A class label with attention pooling."""

  def head(self, config):
    return AttentionPooling(len(self.names))


def main(where: str, records: str, steps: int = 100) -> dict[str, float]:
  """Returns the metrics on a tenth of the records."""
  model = bert_jax.load(where)
  entry = TASKS["classification"].with_targets({"label": PooledLabel()})
  config = config_class(entry)(train=(records,), max_length=64)
  task, data = make(config, model.config, model.tokenizer)
  params = model.with_task(task).params
  options = {"steps": int(steps), "batch_size": 16, "params": params}
  _, metrics = train(task, data, optax.adamw(1e-3), **options)
  print(metrics)
  return metrics


if __name__ == "__main__":
  main(*sys.argv[1:])
