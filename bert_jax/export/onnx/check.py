"""Whether an ONNX file is valid, and computes what JAX does."""

import pathlib
from collections.abc import Sequence

import onnx

from bert_jax.engines.onnx import OnnxForward
from bert_jax.export.check import compare
from bert_jax.settings import UserError
from bert_jax.tasks.task import Task
from bert_jax.types import Parameters


def check(
  path: pathlib.Path,
  task: Task,
  params: Parameters,
  lengths: Sequence[int] | None = None,
  compiled: bool = True,
) -> float:
  """Compares an ONNX file with the model in JAX; see `compare`.

  Raises:
    UserError: the file is no valid ONNX file, or a difference is above
      `TOLERANCE`; the message names the output.
  """
  try:
    onnx.checker.check_model(path, full_check=True)
  except onnx.checker.ValidationError as error:
    reason = " ".join(str(error).split())
    raise UserError(f"{path}: {reason:.300}") from error
  forward = OnnxForward(path, task)
  return compare(forward, path, task, params, lengths, compiled)
