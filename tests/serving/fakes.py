"""Models whose answers are known, and which can be held while they compute."""

import dataclasses
import threading

import numpy as np

from bert_jax.serving.engine import Engine
from bert_jax.serving.metrics import Metrics
from bert_jax.serving.served import Served
from bert_jax.serving.settings import ServeSettings
from bert_jax.tasks import EMBEDDING, TASKS
from tests import small

LIMIT = small.ENCODER.max_positions


class Forward:
  """Computes sums of ids; keeps the batches that it was asked for.

  Attributes:
    gate: while it is not set, batches wait.
    entered: set once a batch waits.
    error: raised for batches with more rows than `error_above`.
  """

  outputs = ("classifier", "hidden_states", "token_embeddings")

  def __init__(self, bias=0.0):
    self.bias = bias
    self.batches = []
    self.gate, self.entered = threading.Event(), threading.Event()
    self.gate.set()
    self.error, self.error_above = None, 0

  def __call__(self, batch, names=None):
    self.batches.append(batch)
    self.entered.set()
    self.gate.wait()
    if self.error and len(batch.token_ids) > self.error_above:
      raise self.error
    ids = np.where(batch.sequence_ids > 0, batch.token_ids, 0)
    total = ids.sum(-1).astype(np.float32)
    hidden = np.stack([ids, ids**2, ids % 3], -1).astype(np.float32)
    found = {
      "classifier": np.stack([np.sin(total), np.cos(total)], -1) + self.bias,
      "hidden_states": hidden,
      "token_embeddings": hidden,
    }
    return {name: found[name] for name in names or found}

  @property
  def rows(self):
    """The number of rows of each batch."""
    return [len(batch.token_ids) for batch in self.batches]


@dataclasses.dataclass
class Predictor:
  """What serving needs of a model."""

  task: object
  forward: Forward

  def embedding_task(self, **changes):
    task = EMBEDDING.bind(self.task.config, self.task.tokenizer)
    ((name, target),) = task.targets.items()
    of_inputs = {k: changes.pop(k) for k in [*changes] if k == "prompt"}
    return dataclasses.replace(
      task,
      targets={name: dataclasses.replace(target, **changes)},
      inputs=dataclasses.replace(task.inputs, **of_inputs),
    )

  def embedder(self):
    return self


def predictor(labels=("no", "yes"), bias=0.0):
  task = TASKS["classification"].with_labels(labels)
  return Predictor(task.bind(small.ENCODER, small.tokenizer()), Forward(bias))


def settings(**changes):
  return ServeSettings(**{"models": {"m": "unused"}, **changes})


class Serving:
  """A model that is served, for a `with` block inside an event loop."""

  def __init__(self, **changes):
    self.settings = settings(**changes)
    self.metrics = Metrics()
    self.core = Engine(self.settings.max_wait)
    self.model = predictor()
    self.forward = self.model.forward
    self.served = Served(
      "m", "1", "onnx", self.model, self.core, self.metrics, self.settings
    )

  def __enter__(self):
    return self

  def __exit__(self, *_):
    if self.forward is not None:
      self.forward.gate.set()
    self.core.stop()

  def metric(self, name, **labels):
    """The value of a metric."""
    return self.metrics._own.get_sample_value(f"bert_jax_{name}", labels)
