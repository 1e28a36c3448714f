"""A training loop of one's own, in Optax alone.

`python -m examples.own_loop MODEL TRAIN.jsonl` ends with the parameters that
`bert_jax.training.train.train` ends with, bit for bit: the same batches, the
same dropout keys, the same loss.
"""

import sys

import jax
import jax.numpy as jnp
import optax

import bert_jax
from bert_jax.tasks import LABELLED, make
from bert_jax.types import Parameters

BATCH_SIZE, SEED = 16, 0


def main(where: str, records: str, steps: int = 20) -> Parameters:
  """Returns the trained parameters."""
  model = bert_jax.load(where)
  config = LABELLED["classification"](train=(records,), max_length=64)
  task, data = make(config, model.config, model.tokenizer)
  params = model.with_task(task).params
  optimizer = optax.adamw(1e-3)
  state, key = optimizer.init(params), jax.random.key(SEED)

  def objective(params, batch, key):
    rngs = {"dropout": key}
    outputs = task.module.apply({"params": params}, batch, False, rngs=rngs)
    means = task.loss(outputs, batch).values()
    return sum(x.total / jnp.maximum(x.weight, 1e-9) for x in means)

  @jax.jit
  def update(params, state, batch, key):
    loss, gradients = jax.value_and_grad(objective)(params, batch, key)
    updates, state = optimizer.update(gradients, state, params)
    return optax.apply_updates(params, updates), state, loss

  stream = data.training(BATCH_SIZE, SEED, None)
  for step in range(int(steps)):
    batch = stream.batch(step, range(BATCH_SIZE))
    step_key = jax.random.fold_in(key, step)
    params, state, loss = update(params, state, batch, step_key)
    print(f"step {step + 1}: loss {loss:.4f}")
  return params


if __name__ == "__main__":
  main(*sys.argv[1:])
