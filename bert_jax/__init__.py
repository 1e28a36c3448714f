"""bert_jax pretrains, fine-tunes and evaluates BERT-family encoders in JAX.

>>> import bert_jax
>>> model = bert_jax.load("hf://sentence-transformers/all-MiniLM-L6-v2")
>>> vectors = model.embed(["The cat sits.", "A feline is seated."])
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from bert_jax.ensembling import ensemble, soup
  from bert_jax.loading import load
  from bert_jax.model import Model, save
  from bert_jax.types import Batch

_MODULES = {
  "Batch": "bert_jax.types",
  "Model": "bert_jax.model",
  "ensemble": "bert_jax.ensembling",
  "load": "bert_jax.loading",
  "save": "bert_jax.model",
  "soup": "bert_jax.ensembling",
}
__all__ = ["Batch", "Model", "ensemble", "load", "save", "soup"]


def __getattr__(name: str) -> Any:
  """Imports a name when it is used: workers that read data need no model."""
  if name in _MODULES:
    return getattr(importlib.import_module(_MODULES[name]), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted({*globals(), *__all__})
