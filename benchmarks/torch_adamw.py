"""The optimizer of the PyTorch implementations."""

from collections.abc import Mapping

import torch
from torch import nn


def adamw(
  model: nn.Module, numbers: Mapping[str, float]
) -> torch.optim.Optimizer:
  """Fused AdamW, the default of the Trainer of Transformers.

  Hyperparameters have the names of `OptimizerConfig`.
  """
  tensors = list(model.parameters())
  groups = [
    # Norms and biases are vectors, all other parameters are not.
    {"params": [x for x in tensors if x.ndim < 2], "weight_decay": 0.0},
    {"params": [x for x in tensors if x.ndim > 1]},
  ]
  return torch.optim.AdamW(
    groups,
    lr=numbers["learning_rate"],
    betas=(numbers["b1"], numbers["b2"]),
    eps=numbers["eps"],
    weight_decay=numbers["weight_decay"],
    fused=True,
  )
