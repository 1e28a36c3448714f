"""Attention, one function for every backend."""

import functools
import importlib

from jaxtyping import Array, Float, Int

from bert_jax.models.attention import choice, devices, xla
from bert_jax.models.attention.dropout import (
  Dropout,
  drop_keys,
  weight_seeds,
)
from bert_jax.models.attention.rotary import rotate
from bert_jax.models.attention.xla import attention_weights
from bert_jax.settings import UserError

__all__ = [
  "BACKENDS",
  "Dropout",
  "attention",
  "attention_weights",
  "rotate",
]

BACKENDS = ("xla", "cudnn", "splash", "short")
"""Modules beside this one. All but `xla` are kernels, which XLA does not split
over devices; of them only `short` has dropout of weights."""


def attention(
  query: Float[Array, "batch length heads depth"],
  key: Float[Array, "batch length heads depth"],
  value: Float[Array, "batch length heads depth"],
  sequence_ids: Int[Array, "batch length"],
  *,
  window: int = 0,
  backend: str = "auto",
  dropout: Dropout | None = None,
) -> Float[Array, "batch length heads depth"]:
  """Scaled dot-product attention within each packed sequence.

  Tokens attend to the tokens with their own sequence id (padding, id 0, to
  padding: what comes out there is finite and means nothing).

  Args:
    query: projected queries, not yet scaled.
    key: projected keys.
    value: projected values.
    sequence_ids: which sequence of the row a token belongs to.
    window: above 0, tokens see only those at most `window // 2` away.
    backend: a name in `BACKENDS`, or `auto`, see `choice.choose`.
    dropout: of attention weights; None for none.

  Returns:
    The weighted values, in the dtype of `query`.

  Raises:
    UserError: the backend cannot do this, or not on the devices that it is
      compiled for: those of the mesh in context (`jax.set_mesh`), or else
      jax's default.
  """
  broadcast = dropout.broadcast if dropout else None
  call = choice.Call(devices.current(), query.dtype, query.shape, broadcast)
  if backend == "auto":
    backend = choice.choose(call)
  elif reason := choice.refusal(backend, call):
    raise UserError(f"config.model.attention: {backend} {reason}")
  if broadcast == "queries":
    value, dropout = drop_keys(value, dropout), None
  if backend == "xla":
    return xla.attend(query, key, value, sequence_ids, window, dropout)
  # To import what kernels are written in takes most of a second.
  kernel = importlib.import_module(f"{__name__}.{backend}")
  attend = functools.partial(kernel.attend, window=window)
  arrays = (query, key, value, sequence_ids)
  if dropout is not None:
    attend = functools.partial(attend, rate=dropout.rate)
    rows, _, heads, _ = query.shape
    arrays += (weight_seeds(dropout, rows, heads),)
  return devices.per_device(attend, *arrays)
