"""Models as TensorFlow's SavedModels and TFLite files, by `jax2tf`."""

import os
import pathlib
import shutil
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bert_jax.batch import Batch, Parameters
from bert_jax.engines.batches import Signature
from bert_jax.export import function
from bert_jax.models import activations
from bert_jax.settings import UserError
from bert_jax.tasks.task import Task

INSTALL = 'pip install "bert_jax[savedmodel]"'
PLATFORMS = ("cpu", "cuda", "tpu")
_SERVING = "serving_default"


def save(
  task: Task, params: Parameters, folder: pathlib.Path
) -> dict[str, Any]:
  """Writes a SavedModel that TensorFlow Serving opens.

  Its signature `serving_default` has the inputs and outputs of
  `function.Function`, with any number of rows and tokens. It runs on CPUs, GPUs
  and TPUs.

  Args:
    task: bound to its encoder.
    params: the parameters of its module.
    folder: of the SavedModel.

  Returns:
    The `inputs` and `outputs` of a manifest.

  Raises:
    UserError: TensorFlow is not installed, or the model is an ensemble.
  """
  tf, made = _tensorflow(), function.make(task, params)
  shapes = {name: f"({', '.join(x)},)" for name, x in made.inputs.items()}
  convert = _jax2tf().convert(
    made.call,
    polymorphic_shapes=[None, shapes],
    native_serialization_platforms=PLATFORMS,
  )
  module = tf.Module()
  module.weights = {
    name: tf.Variable(x, name=name) for name, x in made.weights.items()
  }

  def serve(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    return convert(module.weights, inputs)

  sizes = {name: [None] * len(axes) for name, axes in made.inputs.items()}
  _write(tf, module, serve, sizes, folder)
  return made.describe()


def save_tflite(
  task: Task, params: Parameters, path: pathlib.Path, length: int
) -> dict[str, Any]:
  """Writes a TFLite (LiteRT) file for one row of a fixed number of tokens.

  Args:
    task: bound to its encoder.
    params: the parameters of its module.
    path: of the file.
    length: the number of tokens of a row, with padding.

  Returns:
    The `inputs` and `outputs` of a manifest.

  Raises:
    UserError: TensorFlow is not installed, rows cannot be that long, or the
      model is an ensemble or does not take single rows of tokens.
  """
  tf, made = _tensorflow(), function.make(task, params)
  if not 1 <= length <= made.longest:
    raise UserError(
      f"length: expected 1 to {made.longest} tokens a row, got {length}"
    )
  sizes = {"batch": 1, "length": length}
  axes = {axis for own in made.inputs.values() for axis in own}
  if other := sorted(axes - {*sizes}):
    raise UserError(
      f"TFLite has fixed shapes, and the task {task.name} any number of"
      f" {other[0]}; export to onnx"
    )
  shapes = {
    name: [sizes[axis] for axis in axes] for name, axes in made.inputs.items()
  }
  convert = _jax2tf().convert(lambda x: made.call(made.weights, x))
  folder = path.with_name(f"{path.name}.partial")
  _write(tf, tf.Module(), convert, shapes, folder)
  try:
    data = tf.lite.TFLiteConverter.from_saved_model(str(folder)).convert()
  except Exception as error:
    raise UserError(
      f"{path.name}: TensorFlow {tf.__version__} cannot convert the model to"
      f" TFLite: {error!r:.200}"
    ) from error
  finally:
    shutil.rmtree(folder)
  path.write_bytes(data)
  about = made.describe()
  for entry in (*about["inputs"], *about["outputs"]):
    entry["shape"] = [sizes.get(size, size) for size in entry["shape"]]
  return about


def _write(
  tf: Any,
  module: Any,
  serve: Any,
  shapes: Mapping[str, Sequence[int | None]],
  folder: pathlib.Path,
) -> None:
  """Writes a SavedModel with one signature."""
  wanted = {
    name: tf.TensorSpec(shape, tf.int32, name=name)
    for name, shape in shapes.items()
  }
  module.serve = tf.function(serve, autograph=False, input_signature=[wanted])
  with activations.without_erf():
    tf.saved_model.save(module, str(folder), {_SERVING: module.serve})


class SavedModelForward:
  """The forward pass of a SavedModel, run by TensorFlow.

  Attributes:
    outputs: the names that a call takes.
  """

  def __init__(self, folder: pathlib.Path, task: Task):
    """Opens the SavedModel of a task that is bound to its encoder."""
    tf = _tensorflow()
    self._loaded = tf.saved_model.load(str(folder))  # Keeps variables alive.
    self._call = self._loaded.signatures[_SERVING]
    _, inputs = self._call.structured_input_signature
    self._signature = Signature(
      task,
      {name: len(spec.shape) for name, spec in inputs.items()},
      [*self._call.structured_outputs],
    )
    self.outputs = self._signature.outputs
    self._constant = tf.constant

  def __call__(
    self, batch: Batch, names: Sequence[str] | None = None
  ) -> Mapping[str, np.ndarray]:
    """The outputs for a padded batch of NumPy arrays."""
    chosen = self._signature.select(batch, names)
    inputs = self._signature.feed(batch)
    found = self._call(
      **{name: self._constant(x, "int32") for name, x in inputs.items()}
    )
    return {
      name: self._signature.restore(batch, found[fetch].numpy())
      for name, fetch in chosen.items()
    }


class TFLiteForward:
  """The forward pass of a TFLite file, one row at a time.

  Attributes:
    outputs: the names that a call takes.
  """

  def __init__(self, path: pathlib.Path, task: Task, length: int):
    """Opens the file of a task; rows have `length` tokens."""
    with warnings.catch_warnings():
      # Its successor, of the package ai_edge_litert, reads the same files.
      warnings.filterwarnings("ignore", ".*tf.lite.Interpreter is deprecated")
      interpreter = _tensorflow().lite.Interpreter(model_path=str(path))
    self._run, self._length = interpreter.get_signature_runner(_SERVING), length
    details = self._run.get_input_details()
    self._signature = Signature(
      task,
      {name: len(x["shape"]) for name, x in details.items()},
      [*self._run.get_output_details()],
    )
    self.outputs = self._signature.outputs

  def __call__(
    self, batch: Batch, names: Sequence[str] | None = None
  ) -> Mapping[str, np.ndarray]:
    """The outputs for a padded batch of NumPy arrays."""
    chosen = self._signature.select(batch, names)
    inputs = self._signature.feed(batch)
    rows, length = inputs["input_ids"].shape
    found: dict[str, list[np.ndarray]] = {name: [] for name in chosen}
    for row in range(rows):
      own = {
        name: _lengthened(x[row : row + 1], self._length).astype(np.int32)
        for name, x in inputs.items()
      }
      outputs = self._run(**own)
      for name, fetch in chosen.items():
        output = outputs[fetch]
        is_of_tokens = output.shape[1:2] == (self._length,)
        found[name].append(output[:, :length] if is_of_tokens else output)
    return {
      name: self._signature.restore(batch, np.concatenate(x))
      for name, x in found.items()
    }


def _lengthened(x: np.ndarray, length: int) -> np.ndarray:
  """Rows of tokens with padding up to a length."""
  return np.pad(x, ((0, 0), (0, length - x.shape[1]))) if x.ndim > 1 else x


def _tensorflow() -> Any:
  """The module `tensorflow`, which only this kind of export needs.

  Raises:
    UserError: it is not installed.
  """
  os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
  try:
    import tensorflow
  except ImportError as error:
    raise UserError(
      f"TensorFlow, which writes SavedModels, is not installed; run {INSTALL}"
    ) from error
  return tensorflow


def _jax2tf() -> Any:
  from jax.experimental import jax2tf  # It imports TensorFlow.

  return jax2tf
