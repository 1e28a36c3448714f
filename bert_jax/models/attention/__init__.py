"""Dot-product attention, one function for all backends."""

import functools
import importlib
from collections.abc import Sequence

from jaxtyping import Array, Float

from bert_jax.models.attention import backends, blocks, devices, xla
from bert_jax.models.attention.dropout import Dropout, drop_keys, weight_seeds
from bert_jax.models.attention.relative import (
  bias_buckets,
  bias_buckets_of,
  by_distance,
  disentangled_bias,
  embedding_buckets,
  used_buckets,
)
from bert_jax.models.attention.rotary import rotate
from bert_jax.models.attention.visibility import Keys, Tokens
from bert_jax.models.attention.xla import attention_weights
from bert_jax.settings import UserError

__all__ = [
  "BACKENDS",
  "Dropout",
  "Keys",
  "Tokens",
  "attention",
  "attention_weights",
  "bias_buckets",
  "bias_buckets_of",
  "by_distance",
  "disentangled_bias",
  "embedding_buckets",
  "rotate",
  "used_buckets",
]

BACKENDS = ("xla", "cudnn", "splash", "short")
"""The modules of this package that implement `attend`. All but `xla` are
kernels, which XLA does not partition over devices. Of the kernels, only `short`
has dropout of attention weights."""


def attention(
  query: Float[Array, "batch length heads depth"],
  key: Float[Array, "batch length heads depth"],
  value: Float[Array, "batch length heads depth"],
  tokens: Tokens,
  *,
  past: Sequence[Keys] = (),
  window: int = 0,
  bias: Float[Array, "#batch heads length keys"] | None = None,
  backend: str = "auto",
  dropout: Dropout | None = None,
) -> Float[Array, "batch length heads depth"]:
  """Scaled dot-product attention within each packed sequence.

  Tokens attend to the tokens of the same sequence whose stage is not later.
  Padding, of sequence id 0, attends to padding: its outputs are finite and
  meaningless.

  Args:
    query: the projected queries, not yet scaled.
    key: the projected keys.
    value: the projected values.
    tokens: the sequences, stages and positions of the tokens.
    past: keys and values of earlier calls, which queries attend to as well, by
      the same rules; only by the backend `xla`, without dropout. They may have
      fewer rows: consecutive rows of queries then share those of one row.
    window: above 0, tokens attend to tokens at most `window // 2` away.
    bias: added to the scaled products of queries (third axis) and keys, those
      of `past` first; only by the backend `xla`.
    backend: a name in `BACKENDS`, or `auto`; see `backends.choose`.
    dropout: dropout of attention weights; None for none.

  Returns:
    The weighted values, in the dtype of `query`.

  Raises:
    UserError: the backend does not support these arguments, or not on the
      devices of the mesh in context (`jax.set_mesh`), or without a mesh on
      JAX's default device.
  """
  broadcast = dropout.broadcast if dropout else None
  call = backends.Call(
    devices.current(),
    query.dtype,
    query.shape,
    broadcast,
    bias is not None,
    tokens.stage_ids is not None,
    bool(past),
  )
  if backend == "auto":
    backend = backends.choose(call)
  elif reason := backends.unsupported(backend, call):
    raise UserError(f"config.model.attention: {backend} {reason}")
  if broadcast == "queries":
    value, dropout = drop_keys(value, dropout), None
  if backend == "xla":
    # A symbolic length, as in `jax.export`, is not known to be long.
    is_long = isinstance(query.shape[1], int) and query.shape[1] > blocks.LONG
    if is_long and bias is None and not past:
      return blocks.attend(query, key, value, tokens, window, dropout)
    return xla.attend(query, key, value, tokens, window, bias, dropout, past)
  # Pallas takes most of a second to import.
  kernel = importlib.import_module(f"{__name__}.{backend}")
  attend = functools.partial(kernel.attend, window=window)
  arrays = (query, key, value, tokens)
  if dropout is not None:
    attend = functools.partial(attend, rate=dropout.rate)
    rows, _, heads, _ = query.shape
    arrays += (weight_seeds(dropout, rows, heads),)
  return devices.per_device(attend, *arrays)
