"""BERT-family encoders in JAX: load, pretrain, predict, hand on.

predictor = bert_jax.load("runs/quickstart")
predictor("the array is [MASK] in place")
"""

import importlib
from typing import Any

__all__ = ["Predictor", "load", "save"]


def __getattr__(name: str) -> Any:
  """Imports what is asked for; workers that only read data need no model."""
  if name in __all__:
    return getattr(importlib.import_module("bert_jax.predictor"), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
