"""Optimizers and learning rates in float64 NumPy, from the papers."""

import math

import numpy as np

# As the reference knows it, by hand: which parameters of the tests decay.
DECAYED = {
  "encoder/embeddings/word/embedding": True,
  "encoder/embeddings/norm/scale": False,
  "encoder/layer_0/attention/query/kernel": True,
  "encoder/layer_0/attention/query/bias": False,
  "encoder/layer_0/attention_norm/scale": False,
  "encoder/layer_0/attention_norm/bias": False,
  "encoder/layer_1/attention/query/kernel": True,
  "masked_lm/bias": False,
  "pooler/dense/kernel": True,
}


def params(seed=0, scale=0.5):
  """Random leaves of the parameters above, by path."""
  rng = np.random.default_rng(seed)
  return {
    name: rng.normal(0, scale, (4, 3) if decays else 3).astype(np.float32)
    for name, decays in DECAYED.items()
  }


def clip(gradients, limit):
  """Pascanu et al. 2012: all gradients scaled to a common norm."""
  norm = math.sqrt(sum((g**2).sum() for g in gradients.values()))
  scale = min(1.0, limit / norm) if limit and norm else 1.0
  return {name: g * scale for name, g in gradients.items()}


def train(name, params, gradients_of_steps, rates, numbers):
  """Parameters after some updates, all in float64.

  `name` is an optimizer, `rates` a learning rate for each update.
  """
  params = {k: np.asarray(v, np.float64) for k, v in params.items()}
  first = {k: np.zeros_like(v) for k, v in params.items()}
  second = {k: np.zeros_like(v) for k, v in params.items()}
  b1, b2, eps = numbers["b1"], numbers["b2"], numbers["eps"]
  for t, (gradients, rate) in enumerate(zip(gradients_of_steps, rates), 1):
    gradients = clip(
      {k: np.asarray(v, np.float64) for k, v in gradients.items()},
      numbers["clip_norm"],
    )
    for k, g in gradients.items():
      first[k] = b1 * first[k] + (1 - b1) * g
      second[k] = b2 * second[k] + (1 - b2) * g * g
      m, v = first[k], second[k]
      if name != "bert_adam":
        m, v = m / (1 - b1**t), v / (1 - b2**t)
      direction = m / (np.sqrt(v) + eps)
      if DECAYED[k]:
        direction = direction + numbers["weight_decay"] * params[k]
      ratio = 1.0
      if name == "lamb" and DECAYED[k]:
        weight, update = np.linalg.norm(params[k]), np.linalg.norm(direction)
        if weight > 0 and update > 0:
          ratio = weight / update
      params[k] = params[k] - rate * ratio * direction
  return params


def rate(name, step, peak, total, warmup, *, from_start, end, power):
  """The learning rate of update `step`, counted from 0; `end` is a rate."""
  if step < warmup:
    return peak * step / warmup
  if name == "constant":
    return peak
  if name == "inverse_sqrt":
    return peak * math.sqrt(max(warmup, 1) / max(step, warmup, 1))
  begin = 0 if from_start else warmup
  done = min((step - begin) / (total - begin), 1.0)
  if name == "exponential":
    return peak * (end / peak) ** done
  left = {
    "linear": 1 - done,
    "polynomial": (1 - done) ** power,
    "cosine": (1 + math.cos(math.pi * done)) / 2,
  }[name]
  return end + (peak - end) * left
