"""The optimizer of the PyTorch sides."""

from collections.abc import Mapping

import torch
from torch import nn


def adamw(
  model: nn.Module, numbers: Mapping[str, float]
) -> torch.optim.Optimizer:
  """What the Trainer of Transformers has by default: fused AdamW.

  Args:
    model: of which norms and biases are left out of the decay.
    numbers: by the names of `OptimizerConfig`.
  """
  tensors = list(model.parameters())
  groups = [
    # Norms and biases are the vectors among the parameters.
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
