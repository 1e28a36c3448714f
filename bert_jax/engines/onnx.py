"""Exported models on ONNX Runtime."""

import os
from collections.abc import Mapping, Sequence

import numpy as np

from bert_jax.engines.batches import PartsForward, Signature
from bert_jax.settings import UserError
from bert_jax.tasks.task import Task

# What these make takes longer than what they replace. Measured: norms of 384
# features take 8.4 ms in one operator, and 2.4 ms in two.
_SLOWER = ["SkipLayerNormFusion"]
_INSTALL = 'pip install "bert_jax[export]"'


class OnnxForward(PartsForward):
  """The forward pass of an ONNX file, on the CPU; no shape is compiled.

  >>> forward = OnnxForward("model.onnx", task, threads=1)
  >>> forward(batch)["classifier"].shape
  (8, 2)

  May be called from several threads.
  """

  def __init__(
    self, model: str | os.PathLike | bytes, task: Task, threads: int = 0
  ):
    """Opens the file.

    Args:
      model: the file, or its bytes.
      task: that was exported, bound to its encoder.
      threads: that compute one batch; 0 for one for each core.

    Raises:
      UserError: `onnxruntime` is not installed, or the file is damaged.
    """
    try:
      import onnxruntime
    except ImportError as error:
      raise UserError(
        f"the engine onnxruntime is not installed; run {_INSTALL}"
      ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Lengths vary: what an arena keeps for the longest batch is never freed.
    options.enable_cpu_mem_arena = False
    options.enable_mem_pattern = False
    options.log_severity_level = 3
    # Threads that wait for work would take the cores from other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else os.fspath(model)
    try:
      self._session = onnxruntime.InferenceSession(
        source,
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=_SLOWER,
      )
    except Exception as error:  # Each fault has a class of its own.
      where = "the model" if isinstance(model, bytes) else source
      reason = " ".join(str(error).split())
      raise UserError(
        f"{where}: ONNX Runtime cannot open it: {reason:.300}"
      ) from error
    signature = Signature(
      task,
      {x.name: len(x.shape) for x in self._session.get_inputs()},
      [x.name for x in self._session.get_outputs()],
    )
    super().__init__(signature, threads)
    # Without this, the nodes of all outputs are computed.
    self._run_options = onnxruntime.RunOptions()
    self._run_options.only_execute_path_to_fetches = True

  def _compute(
    self, inputs: Mapping[str, np.ndarray], names: Sequence[str]
  ) -> Sequence[np.ndarray]:
    return self._session.run(names, inputs, self._run_options)
