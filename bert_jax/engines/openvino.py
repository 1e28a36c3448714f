"""Exported models on OpenVINO."""

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_jax.engines.batches import PartsForward, Signature
from bert_jax.settings import UserError
from bert_jax.tasks.task import Task

_INSTALL = 'pip install "bert_jax[openvino]"'


class OpenVinoForward(PartsForward):
  """The forward pass of an ONNX file on OpenVINO, on the CPU, in float32.

  Of ONNX Runtime's own operators it reads but some: export with
  `runtime="standard"`. Calls from several threads take turns.

  >>> forward = OpenVinoForward("model.onnx", task, threads=1)
  >>> forward(batch)["classifier"].shape
  (8, 2)
  """

  def __init__(
    self, model: str | os.PathLike | bytes, task: Task, threads: int = 0
  ):
    """Opens the file; what computes some outputs is compiled in the first call.

    Args:
      model: the file, or its bytes.
      task: that was exported, bound to its encoder.
      threads: that compute one batch; 0 for one for each core.

    Raises:
      UserError: `openvino` is not installed, or the file is damaged.
    """
    try:
      import openvino
    except ImportError as error:
      raise UserError(
        f"the engine openvino is not installed; run {_INSTALL}"
      ) from error
    self._library, self._core = openvino, openvino.Core()
    where = "the model" if isinstance(model, bytes) else os.fspath(model)
    try:
      source = model if isinstance(model, bytes) else where
      self._model = self._core.read_model(source)
    except RuntimeError as error:
      reason = " ".join(str(error).split())
      raise UserError(
        f"{where}: OpenVINO cannot open it: {reason:.300}"
      ) from error
    signature = Signature(
      task,
      {x.any_name: len(x.partial_shape) for x in self._model.inputs},
      [x.any_name for x in self._model.outputs],
    )
    super().__init__(signature, threads)
    self._settings = {
      # Some processors would compute in bfloat16.
      "INFERENCE_PRECISION_HINT": "f32",
      "INFERENCE_NUM_THREADS": threads,
      "NUM_STREAMS": 1,
    }
    self._compiled: dict[tuple[str, ...], Any] = {}
    self._lock = threading.Lock()

  def _compute(
    self, inputs: Mapping[str, np.ndarray], names: Sequence[str]
  ) -> Sequence[np.ndarray]:
    names = tuple(names)
    with self._lock:
      if names not in self._compiled:
        self._compiled[names] = self._compile(names)
      # Copies, as the next call writes to the same memory.
      found = self._compiled[names].infer(dict(inputs), share_outputs=False)
    return [found[name] for name in names]

  def _compile(self, names: Sequence[str]) -> Any:
    """What computes these outputs and no others."""
    results = [
      result
      for result in self._model.get_results()
      if result.input(0).get_source_output().get_names() & {*names}
    ]
    model = self._library.Model(results, self._model.get_parameters(), "part")
    compiled = self._core.compile_model(model, "CPU", self._settings)
    return compiled.create_infer_request()
