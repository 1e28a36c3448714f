"""The forward pass of BERT in float64 NumPy, one sequence at a time."""

import math

import numpy as np

_erf = np.vectorize(math.erf)


def gelu(x, exact=True):
  if exact:
    return x * 0.5 * (1 + _erf(x / math.sqrt(2)))
  inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
  return x * 0.5 * (1 + np.tanh(inner))


def norm(x, p, epsilon):
  mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
  return (x - mean) / np.sqrt(variance + epsilon) * p["scale"] + p["bias"]


def dense(x, p):
  return x @ p["kernel"] + p["bias"]


def softmax(x):
  e = np.exp(x - x.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def encode_sequence(params, config, token_ids, segment_ids):
  """The last hidden state of a sequence without padding: [length, hidden]."""
  return encode_layers(params, config, token_ids, segment_ids)[0][-1]


def encode_layers(params, config, token_ids, segment_ids):
  """Hidden states and attention weights of a sequence without padding.

  Returns:
    L + 1 arrays [length, hidden] and L arrays [heads, length, length].
  """
  p, eps = params["embeddings"], config.layer_norm_epsilon
  x = (
    p["word"]["embedding"][token_ids]
    + p["position"]["embedding"][: len(token_ids)]
    + p["segment"]["embedding"][segment_ids]
  )
  x = norm(x, p["norm"], eps)
  states, attentions = [x], []
  depth = config.hidden_size // config.num_heads
  for n in range(config.num_layers):
    p = params[f"layer_{n}"]
    q, k, v = (
      dense(x, p["attention"][name]) for name in ("query", "key", "value")
    )
    heads, attention = [], []
    for h in range(config.num_heads):
      part = slice(h * depth, (h + 1) * depth)
      weights = softmax(q[:, part] @ k[:, part].T / math.sqrt(depth))
      heads.append(weights @ v[:, part])
      attention.append(weights)
    mixed = dense(np.concatenate(heads, -1), p["attention"]["output"])
    x = norm(x + mixed, p["attention_norm"], eps)
    inner = gelu(
      dense(x, p["feed_forward"]["intermediate"]), config.activation == "gelu"
    )
    out = dense(inner, p["feed_forward"]["output"])
    x = norm(x + out, p["feed_forward_norm"], eps)
    states.append(x)
    attentions.append(np.stack(attention))
  return states, attentions


def pretraining_logits(params, config, hidden, masked_positions):
  """Masked-LM [predictions, vocabulary] and next-sentence [2] logits."""
  p, exact = params["masked_lm"], config.activation == "gelu"
  x = gelu(dense(hidden[masked_positions], p["transform"]["dense"]), exact)
  x = norm(x, p["transform"]["norm"], config.layer_norm_epsilon)
  words = params["encoder"]["embeddings"]["word"]["embedding"]
  pooled = np.tanh(dense(hidden[0], params["pooler"]["dense"]))
  return x @ words.T + p["bias"], dense(pooled, params["next_sentence"])
