"""A new task: ordinal ratings, by one logit a threshold (CORAL).

`python -m examples.new_task MODEL TRAIN.jsonl` trains on `text` and `label`,
a rating from 1 to 5.
"""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax

import bert_jax
from bert_jax.models import heads
from bert_jax.tasks import Target, Task, Texts, labelled
from bert_jax.tasks.targets import losses
from bert_jax.training.train import train


@dataclasses.dataclass(frozen=True)
class Rating(Target):
  FIELDS = ("label",)
  ARRAYS = {"ratings": (np.int32, "")}  # noqa: RUF012

  def head(self, config):
    return heads.SequenceHead(config, 4, bias=True)

  def arrays(self, record, training):
    return {"ratings": np.int32(int(record["label"]))}

  def loss(self, outputs, arrays, batch):
    above = (arrays["ratings"][:, None] > jnp.arange(1, 5)).astype(jnp.float32)
    values = losses.binary_cross_entropy(outputs, above).sum(-1)
    return {"loss": losses.mean(values, arrays["weights"])}

  def predict(self, outputs, batch, records, tokenizer):
    return np.asarray(1 + jax.nn.sigmoid(outputs).sum(-1))[: len(records)]

  def decode(self, record, prediction, tokenizer):
    return float(prediction)

  def evaluate(self, records, predictions):
    gold = np.array([float(record["label"]) for record in records])
    return {"mae": float(np.abs(gold - predictions).mean())}


def main(where, records, steps=100, rate=1e-4):
  task = Task("rating", Texts(64), {"rating": Rating()})
  model = bert_jax.load(where).with_task(task)
  config = labelled.config_class(task)(train=(records,))
  task, data = labelled.make(config, model.config, model.tokenizer)
  options = {"steps": steps, "batch_size": 16, "params": model.params}
  state, metrics = train(task, data, optax.adamw(rate), **options)
  return dataclasses.replace(model, params=state.params), metrics


if __name__ == "__main__":
  print(main(*sys.argv[1:])[1])
