"""The Flax BERT of Transformers 4.57, the last version with Flax.

The train step is that of `examples/flax/language-modeling/run_mlm_flax.py`,
with a next-sentence loss, clipping of the gradient norm, and a cross-entropy
without one-hot labels.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
import transformers

from benchmarks import peers
from benchmarks.peers import Job, Rows, Run

_IGNORED = -1
State = tuple[Any, Any, jax.Array]
"""The parameters, the optimizer state and the PRNG key."""


def training(job: Job) -> Run:
  model = transformers.FlaxBertForPreTraining(
    transformers.BertConfig(**job.model)
  )
  init, step = make_step(job, model)
  state = jax.jit(init)(model.params)
  update = jax.jit(step, donate_argnums=0)

  def run(batches: Sequence[Rows]) -> float:
    nonlocal state
    for rows in batches:
      state, loss = update(state, inputs(rows) | targets(rows))
    return float(loss)  # Waits.

  return run


def inference(job: Job) -> Run:
  config = transformers.BertConfig(**job.model)
  model = transformers.FlaxBertModel(config, add_pooling_layer=False)

  @jax.jit
  def embed(params: Any, batch: dict[str, jax.Array]) -> jax.Array:
    hidden = model(**batch, params=params).last_hidden_state
    used = batch["attention_mask"][..., None]
    return (hidden * used).sum(1) / used.sum(1)

  def run(batches: Sequence[Rows]) -> None:
    for rows in batches:
      jax.device_get(embed(model.params, inputs(rows)))

  return run


def versions() -> dict[str, str]:
  return {"jax": jax.__version__, "transformers": transformers.__version__}


def make_step(
  job: Job, model: transformers.FlaxBertForPreTraining
) -> tuple[Callable[[Any], State], Callable[..., tuple[State, jax.Array]]]:
  """Returns the functions from parameters to a state, and of an update."""
  wanted = job.optimizer
  optimizer = optax.chain(
    optax.clip_by_global_norm(wanted["clip_norm"]),
    optax.adamw(
      **{name: x for name, x in wanted.items() if name != "clip_norm"},
      # Norms and biases are vectors, all other parameters are not.
      mask=lambda params: jax.tree.map(lambda x: x.ndim > 1, params),
    ),
  )

  def init(params: Any) -> State:
    return params, optimizer.init(params), jax.random.PRNGKey(0)

  def step(state: State, batch: Any) -> tuple[State, jax.Array]:
    params, optimizer_state, key = state
    key, dropout_key = jax.random.split(key)

    def objective(params: Any) -> jax.Array:
      given = {n: x for n, x in batch.items() if n not in ("labels", "pairs")}
      outputs = model(
        **given, params=params, dropout_rng=dropout_key, train=True
      )
      entropy = optax.softmax_cross_entropy_with_integer_labels
      used = batch["labels"] != _IGNORED
      words = entropy(
        outputs.prediction_logits, jnp.where(used, batch["labels"], 0)
      )
      pairs = entropy(outputs.seq_relationship_logits, batch["pairs"])
      return (words * used).sum() / used.sum() + pairs.mean()

    loss, gradients = jax.value_and_grad(objective)(params)
    updates, optimizer_state = optimizer.update(
      gradients, optimizer_state, params
    )
    params = optax.apply_updates(params, updates)
    return (params, optimizer_state, key), loss

  return init, step


def inputs(rows: Rows) -> dict[str, Any]:
  """The inputs of the model."""
  return {
    "input_ids": rows["token_ids"],
    "token_type_ids": rows["segment_ids"],
    "attention_mask": (rows["sequence_ids"] > 0).astype("int32"),
  }


def targets(rows: Rows) -> dict[str, Any]:
  """The labels of the losses."""
  return {
    "labels": peers.labels(rows, _IGNORED).astype("int32"),
    "pairs": rows["next_sentence/labels"].reshape(-1),
  }
