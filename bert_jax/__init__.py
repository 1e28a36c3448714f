"""BERT-family encoders in JAX: load, train, predict, evaluate, hand on.

predictor = bert_jax.load("runs/quickstart")
predictor("the array is [MASK] in place")
"""

import importlib
from typing import Any

_MODULES = {
  "Predictor": "bert_jax.predictor",
  "ensemble": "bert_jax.ensembling",
  "load": "bert_jax.predictor",
  "save": "bert_jax.predictor",
  "soup": "bert_jax.ensembling",
}
__all__ = ["Predictor", "ensemble", "load", "save", "soup"]


def __getattr__(name: str) -> Any:
  """Imports what is asked for; workers that only read data need no model."""
  if name in _MODULES:
    return getattr(importlib.import_module(_MODULES[name]), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
