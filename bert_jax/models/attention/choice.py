"""Which backend an attention is for, and which it is not for."""

from typing import NamedTuple

import jax.numpy as jnp

from bert_jax.models.attention.devices import LANES, Device

SHORT_UP_TO = 512
"""Tokens of a row of the kernel for short ones, and of a step of it: as many
as their weights leave room for."""

_CUDNN_DEPTH = 128
# From which length on kernels are the faster ones.
_TPU_FROM, _TPU_DROPPING_FROM = 384, 512
_GPU_FROM = 128


class Call(NamedTuple):
  """What is known of an attention before it is compiled.

  Attributes:
    device: what it is compiled for.
    dtype: of queries, keys and values.
    shape: theirs: rows, length, heads and the width of a head.
    broadcast: by what a dropout mask of weights is shared, see
      `EncoderConfig`; None without dropout.
  """

  device: Device
  dtype: jnp.dtype
  shape: tuple[int, int, int, int]
  broadcast: str | None = None


def choose(call: Call) -> str:
  """The backend that `auto` stands for.

  | compiled for | length | dropout of weights | what else | backend |
  | --- | --- | --- | --- | --- |
  | TPU | 384 to 512 | none, or by `queries` | heads fill lanes | `short` |
  | TPU | 512 | any | heads fill lanes | `short` |
  | TPU | from 384 | none, or by `queries` | | `splash` |
  | NVIDIA GPU | from 128 | none, or by `queries` | bfloat16 | `cudnn` |
  | anything else | | | | `xla` |

  For TPUs by the cycles that the compiler plans for v5e, those inside kernels
  too; nothing was timed on one. At 384 dropout of single weights costs as
  much in `short` as in `xla`. For GPUs, of which none was at hand, it is
  only where the kernel can be used and rows are not tiny.
  """
  drops_weights = call.broadcast not in (None, "queries")
  kernels, least = {
    "tpu": (
      ("short", "splash"),
      _TPU_DROPPING_FROM if drops_weights else _TPU_FROM,
    ),
    "gpu": (("cudnn",), _GPU_FROM),
  }.get(call.device.platform, ((), 0))
  if call.shape[1] >= least:
    for kernel in kernels:
      if not refusal(kernel, call):
        return kernel
  return "xla"


def refusal(backend: str, call: Call) -> str | None:
  """Why a backend cannot do this; None where it can."""
  if backend == "xla":
    return None
  device, (rows, length, heads, depth) = call.device, call.shape
  if backend != "short" and call.broadcast not in (None, "queries"):
    return (
      "has no dropout of attention weights; set attention_dropout to 0, or"
      " attention_dropout_broadcast to queries"
    )
  if rows % device.rows or heads % device.heads:
    return (
      f"cannot divide {rows} rows and {heads} heads over config.mesh:"
      f" {device.rows} ways by data x fsdp, {device.heads} by model"
    )
  if backend == "cudnn":
    return _cudnn_refusal(call)
  # On a CPU they are interpreted.
  if device.platform not in ("tpu", "cpu"):
    return f"needs a TPU, and this is for {device.kind}"
  if backend == "splash":
    return None
  if length > SHORT_UP_TO:
    return f"takes rows of at most {SHORT_UP_TO} tokens, got {length}"
  if LANES % depth or heads // device.heads * depth % LANES:
    return (
      f"needs heads that fill {LANES} lanes, got {heads // device.heads} of"
      f" width {depth}"
    )
  return None


def _cudnn_refusal(call: Call) -> str | None:
  device, depth = call.device, call.shape[-1]
  if not device.kind.startswith("NVIDIA"):
    return f"needs an NVIDIA GPU, and this is for {device.kind}"
  if call.dtype not in (jnp.bfloat16, jnp.float16):
    return f"needs the dtype bfloat16, got {call.dtype}"
  if depth % 8 or depth > _CUDNN_DEPTH:
    return (
      f"needs heads of a width that 8 divides, up to {_CUDNN_DEPTH}; got"
      f" {depth}"
    )
  return None
