"""Model repositories of NVIDIA's Triton Inference Server."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bert_jax.settings import UserError

CONFIG = "config.pbtxt"
VERSION = "1"
"""The folder of the model's only version."""

_TYPES = {"int64": "TYPE_INT64", "float32": "TYPE_FP32"}
# Requests wait this long for others, at most.
_DELAY_MICROSECONDS = 1000
_BATCH_SIZE = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def check_name(name: str) -> None:
  """Refuses a name that Triton has no model of.

  Raises:
    UserError: the name is not made of letters, digits and `._-`.
  """
  if not _NAME.fullmatch(name):
    raise UserError(
      f"--output: the folder's name is that of the model in Triton, letters,"
      f" digits and ._- only; got {name!r}"
    )


def config(
  name: str,
  inputs: Sequence[Mapping[str, Any]],
  outputs: Sequence[Mapping[str, Any]],
) -> str:
  """The text of `config.pbtxt` for an ONNX file.

  Requests of the same length are batched together; clients that pad lengths to
  a few values get larger batches.

  Args:
    name: of the model, which is that of its folder.
    inputs: name, dtype and shape of each, as in a manifest; the first axis is
      that of the batch.
    outputs: the same.
  """
  blocks = [
    f"name: {json.dumps(name)}",
    'backend: "onnxruntime"',
    f"max_batch_size: {_BATCH_SIZE}",
    *(_tensor("input", entry) for entry in inputs),
    *(_tensor("output", entry) for entry in outputs),
    "dynamic_batching {\n"
    f"  max_queue_delay_microseconds: {_DELAY_MICROSECONDS}\n"
    "}",
  ]
  return "\n".join(blocks) + "\n"


def _tensor(kind: str, entry: Mapping[str, Any]) -> str:
  _, *sizes = entry["shape"]
  sizes = [size if isinstance(size, int) else -1 for size in sizes]
  lines = [f"{kind} {{", f"  name: {json.dumps(entry['name'])}"]
  lines.append(f"  data_type: {_TYPES[entry['dtype']]}")
  if sizes:
    lines.append(f"  dims: {sizes}")
  else:
    # One number a row: an axis of the batch alone.
    lines += ["  dims: [1]", "  reshape { shape: [] }"]
  return "\n".join([*lines, "}"])
