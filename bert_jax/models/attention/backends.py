"""The attention backends: which one `auto` selects, and what each supports."""

from typing import NamedTuple

import jax.numpy as jnp

from bert_jax.models.attention.devices import LANES, Device

SHORT_MAX_LENGTH = 512
"""The maximum length of a row of the kernel `short`, and the tokens of one of
its grid steps: the attention weights of more do not fit into VMEM."""

_CUDNN_MAX_DEPTH = 128
# The lengths from which kernels are faster than `xla`; on TPUs without and
# with dropout of single weights.
_TPU_FROM, _TPU_DROPOUT_FROM = 384, 512
_GPU_FROM = 128


class Call(NamedTuple):
  """The static properties of a call of attention.

  Attributes:
    device: the device that it is compiled for.
    dtype: of queries, keys and values.
    shape: of queries, keys and values: rows, length, heads, depth of a head.
    broadcast: the `attention_dropout_broadcast` of `EncoderConfig`; None
      without dropout.
    has_bias: whether a bias is added to the attention scores.
    has_stages: whether tokens have stages.
    has_past: whether there are keys of earlier calls.
  """

  device: Device
  dtype: jnp.dtype
  shape: tuple[int, int, int, int]
  broadcast: str | None = None
  has_bias: bool = False
  has_stages: bool = False
  has_past: bool = False


def choose(call: Call) -> str:
  """The backend that `auto` selects.

  | compiled for | length | dropout | other conditions | backend |
  | --- | --- | --- | --- | --- |
  | TPU | 384 to 512 | none, or over `queries` | heads fill lanes | `short` |
  | TPU | 512 | any | heads fill lanes | `short` |
  | TPU | from 384 | none, or over `queries` | no stages | `splash` |
  | NVIDIA GPU | from 128 | none, or over `queries` | bfloat16 | `cudnn` |
  | other | | | | `xla` |

  Relative positions and keys of earlier calls are supported by `xla` alone.

  The TPU rows follow from the cycles that the compiler estimates for a v5e,
  inside of kernels included; they were not measured on a TPU. At length 384,
  dropout of single weights makes `short` as slow as `xla`. The GPU row was not
  measured either: it selects cuDNN wherever it is supported and rows are not
  tiny.
  """
  drops_weights = call.broadcast not in (None, "queries")
  kernels, min_length = {
    "tpu": (
      ("short", "splash"),
      _TPU_DROPOUT_FROM if drops_weights else _TPU_FROM,
    ),
    "gpu": (("cudnn",), _GPU_FROM),
  }.get(call.device.platform, ((), 0))
  if call.shape[1] >= min_length:
    for kernel in kernels:
      if not unsupported(kernel, call):
        return kernel
  return "xla"


def unsupported(backend: str, call: Call) -> str | None:
  """The reason why a backend does not support a call; None if it does."""
  if backend == "xla":
    return None
  if call.has_bias:
    return "has no bias of attention scores, as relative_buckets needs"
  if call.has_past:
    return "has no keys of earlier calls, as decoding needs; use xla"
  if call.has_stages and backend == "splash":
    return "has no stages of tokens, as tasks that write text need; use xla"
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
    if not device.kind.startswith("NVIDIA"):
      return f"needs an NVIDIA GPU, and this is for {device.kind}"
    if call.dtype not in (jnp.bfloat16, jnp.float16):
      return f"needs the dtype bfloat16, got {call.dtype}"
    if depth % 8 or depth > _CUDNN_MAX_DEPTH:
      return (
        "needs heads whose width is a multiple of 8, at most"
        f" {_CUDNN_MAX_DEPTH}; got {depth}"
      )
    return None
  # On a CPU, Pallas kernels are interpreted.
  if device.platform not in ("tpu", "cpu"):
    return f"needs a TPU, and this is for {device.kind}"
  if backend == "splash":
    return None
  if length > SHORT_MAX_LENGTH:
    return f"takes rows of at most {SHORT_MAX_LENGTH} tokens, got {length}"
  if LANES % depth or heads // device.heads * depth % LANES:
    return (
      f"needs heads that fill {LANES} lanes, got {heads // device.heads} of"
      f" width {depth}"
    )
  return None
