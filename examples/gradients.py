"""Gradients with respect to embeddings, and gradients of single examples.

`python -m examples.gradients MODEL "A text." ...` prints, for each text, the
token whose embedding the highest logit depends on most, and the norm of the
gradient that this text gives to the parameters.
"""

import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

import bert_jax
from bert_jax.data import grouping


def main(where: str, *texts: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns saliency [texts, length] and gradient norms [texts]."""
  model = bert_jax.load(where)
  examples = [model.task.preprocess({"text": text})[0] for text in texts]
  batch = grouping.pad(examples, rows=len(examples))

  def highest_logit(params, offsets, example):
    """Of one example; `offsets` are added to its word embeddings."""

    def add(call, args, kwargs, context):
      out = call(*args, **kwargs)
      is_lookup = context.module.name == "word" and out is not None
      return out + offsets if is_lookup else out

    rows = jax.tree.map(lambda x: x[None], example)
    with nn.intercept_methods(add):
      outputs = model.module.apply({"params": params}, rows)
    return outputs["classifier"].max()

  width = model.config.embedding_size or model.config.hidden_size
  offsets = jnp.zeros((*batch.token_ids.shape, width))
  # One gradient an example: parameters are shared, the rest has a row each.
  gradient = jax.vmap(jax.grad(highest_logit, (0, 1)), (None, 0, 0))
  of_params, of_offsets = jax.jit(gradient)(model.params, offsets, batch)
  saliency = np.asarray(jnp.linalg.norm(of_offsets, axis=-1))
  norms = np.asarray(jax.vmap(optax.tree.norm)(of_params))
  for text, ids, row, norm in zip(texts, batch.token_ids, saliency, norms):
    token = model.tokenizer.token(int(ids[row.argmax()]))
    print(f"{text}: depends most on {token!r}, gradient norm {norm:.3g}")
  return saliency, norms


if __name__ == "__main__":
  main(*sys.argv[1:])
