"""keras-hub on Keras's JAX backend.

Its masked language model has no next-sentence loss, so it does slightly less
work; like bert_jax it predicts only masked positions. The `fit` of its tasks
requires TensorFlow datasets, so the graph of the task is wrapped in a plain
Keras model, which accepts arrays.
"""

import os
from collections.abc import Sequence

os.environ["KERAS_BACKEND"] = "jax"

import keras
import keras_hub
import numpy as np
from keras import ops

from benchmarks.peers import Job, Rows, Run


def training(job: Job) -> Run:
  keras.utils.set_random_seed(0)
  wanted = job.optimizer
  optimizer = keras.optimizers.AdamW(
    learning_rate=wanted["learning_rate"],
    beta_1=wanted["b1"],
    beta_2=wanted["b2"],
    epsilon=wanted["eps"],
    weight_decay=wanted["weight_decay"],
    global_clipnorm=wanted["clip_norm"],
  )
  task = keras_hub.models.BertMaskedLM(_backbone(job), preprocessor=None)
  model = keras.Model(task.input, task.output)
  model.compile(
    optimizer=optimizer,
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    weighted_metrics=[keras.metrics.SparseCategoricalAccuracy()],
    jit_compile=True,
  )

  def run(batches: Sequence[Rows]) -> float:
    rows = _joined(batches)
    inputs = _inputs(rows) | {"mask_positions": rows["masked_lm/positions"]}
    history = model.fit(
      inputs,
      rows["masked_lm/ids"],
      sample_weight=rows["masked_lm/weights"],
      batch_size=len(batches[0]["token_ids"]),
      shuffle=False,
      verbose=0,
    )
    return history.history["loss"][-1]

  return run


def inference(job: Job) -> Run:
  backbone = _backbone(job)
  used = ops.cast(backbone.input["padding_mask"], "float32")[..., None]
  hidden = backbone.output["sequence_output"]
  mean = ops.sum(hidden * used, axis=1) / ops.sum(used, axis=1)
  model = keras.Model(backbone.input, mean)
  model.compile(jit_compile=True)

  def run(batches: Sequence[Rows]) -> None:
    model.predict(
      _inputs(_joined(batches)),
      batch_size=len(batches[0]["token_ids"]),
      verbose=0,
    )

  return run


def versions() -> dict[str, str]:
  return {"keras": keras.__version__, "keras-hub": keras_hub.__version__}


def _backbone(job: Job) -> keras_hub.models.BertBackbone:
  model = job.model
  return keras_hub.models.BertBackbone(
    vocabulary_size=model["vocab_size"],
    num_layers=model["num_hidden_layers"],
    num_heads=model["num_attention_heads"],
    hidden_dim=model["hidden_size"],
    intermediate_dim=model["intermediate_size"],
    dropout=model["hidden_dropout_prob"],
    max_sequence_length=model["max_position_embeddings"],
  )


def _joined(batches: Sequence[Rows]) -> Rows:
  """The rows of all batches; Keras splits them into batches again."""
  return {n: np.concatenate([x[n] for x in batches]) for n in batches[0]}


def _inputs(rows: Rows) -> dict[str, np.ndarray]:
  return {
    "token_ids": rows["token_ids"],
    "segment_ids": rows["segment_ids"],
    "padding_mask": (rows["sequence_ids"] > 0).astype("int32"),
  }
