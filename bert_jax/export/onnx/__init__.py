"""Models as ONNX files, written with the package `onnx` (extra `export`)."""

from bert_jax.export.check import TOLERANCE
from bert_jax.export.onnx.bits import measure_bits, quantize
from bert_jax.export.onnx.build import RUNTIMES, build, describe, save
from bert_jax.export.onnx.check import check

__all__ = [
  "RUNTIMES",
  "TOLERANCE",
  "build",
  "check",
  "describe",
  "measure_bits",
  "quantize",
  "save",
]
