"""Opens exported models, without JAX.

    FOLDER/manifest.json   what the model is, and the checksum of each file
    FOLDER/model.onnx      the model; its name is an entry of the manifest
    FOLDER/vocab.txt ...   the tokenizer
    FOLDER/README.md       a model card

`bert_jax.export.folder` writes such folders.
"""

import os
import pathlib
from collections.abc import Mapping
from typing import Any

from bert_jax import settings, tasks, text
from bert_jax.checkpointing import manifest
from bert_jax.models.config import EncoderConfig
from bert_jax.predictor import Forward, Predictor
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.tasks.task import Task

FORMAT = "bert_jax.export"
FORMAT_VERSION = 1
"""Of the manifest; a reader refuses those that are newer."""

MODELS: Mapping[str, str] = {
  "onnx": "model.onnx",
  "stablehlo": "model.stablehlo",
  # TensorFlow Serving takes the folder as a model, and this as its version.
  "savedmodel": "1",
  "tflite": "model.tflite",
}
"""The kinds of exports that are no Hugging Face folders, and where in the
folder the model is."""

WEIGHTS = "weights.safetensors"
"""The weights of a StableHLO program that has none inside."""

ENGINES: Mapping[str, tuple[str, ...]] = {
  "onnx": ("onnxruntime", "openvino"),
  "stablehlo": ("jax",),
}
"""The engines that run each kind, the default first."""

# Of models that `bert_jax.load` opens otherwise: a run, a Hugging Face folder.
_OTHERS = {"bert_jax.json", "config.json"}
_HUB = "hf://"


def is_export(where: paths.Path) -> bool:
  """Whether a folder has an exported model, complete or not.

  An export in the format of Hugging Face is a Hugging Face folder instead.

  Raises:
    UserError: it is in a store that cannot be reached.
  """
  if os.fspath(where).startswith(_HUB):
    return False
  found = set(paths.list_names(where))
  known = {manifest.NAME, *MODELS.values()}
  return not found & _OTHERS and bool(found & known)


def read_manifest(where: paths.Path) -> dict[str, Any]:
  """The manifest of an exported model, whose files are verified.

  Raises:
    UserError: the folder is damaged or incomplete, its manifest is of a newer
      version, or it is in a store that cannot be reached.
  """
  folder = paths.as_path(where)
  if fault := manifest.verify(folder):
    raise UserError(f"{where}: this export is damaged or incomplete: {fault}")
  contents = manifest.read(folder)
  if contents.get("format") != FORMAT:
    raise UserError(f"{where}: {manifest.NAME} is not of an exported model")
  if contents["format_version"] > FORMAT_VERSION:
    raise UserError(
      f"{where}: exported by a newer version of bert_jax"
      f" ({contents['versions'].get('bert_jax')}); update this one"
    )
  return contents


def load(
  where: paths.Path,
  engine: str = "auto",
  threads: int | None = None,
  batch_size: int = 32,
) -> Predictor:
  """Opens an exported model.

  >>> model = exported.load("exports/sentiment", threads=1)
  >>> model("A gripping film.")[0]
  Label(label='positive', probability=0.98)

  Args:
    where: the folder, here or in an object store.
    engine: what runs the model: `onnxruntime` or `openvino` for ONNX, `jax` for
      StableHLO; `auto` is `onnxruntime` or `jax`.
    threads: that compute one batch; None for one for each core. JAX takes all.
    batch_size: rows that go through the model at once, at most.

  Returns:
    The model, with the answers of the one that it was exported from.

  Raises:
    UserError: there is no such export or engine, the export is damaged or
      incomplete, or no engine runs its kind.
  """
  folder = paths.local(where)
  contents = read_manifest(folder)
  kind = contents["kind"]
  if kind not in ENGINES:
    raise UserError(
      f"{where}: bert_jax does not run a {kind}; load the model that it was"
      " exported from"
    )
  known = dict.fromkeys(("auto", *ENGINES[kind]))
  settings.choice(f"engine of {kind}", engine, known)
  source = f"{where}: {manifest.NAME}"
  config = settings.from_dict(
    EncoderConfig, contents["encoder"], f"{source}: encoder"
  )
  task = tasks.from_state(contents["task"], f"{source}: task")
  tokenizer = text.load(folder) if contents["tokenizer"] else None
  task = task.bind(config, tokenizer)
  engine = ENGINES[kind][0] if engine == "auto" else engine
  forward = _forward(engine, folder, contents, task, threads)
  return Predictor(task, forward, batch_size)


def _forward(
  engine: str,
  folder: pathlib.Path,
  contents: Mapping[str, Any],
  task: Task,
  threads: int | None,
) -> Forward:
  """The model on an engine; each imports what it needs."""
  path = folder / contents["model"]
  if engine == "jax":
    from safetensors import numpy as safetensors

    from bert_jax.engines.stablehlo import StableHloForward

    weights = contents.get("weights")
    return StableHloForward(
      path, task, weights and safetensors.load_file(folder / weights)
    )
  if engine == "openvino":
    from bert_jax.engines.openvino import OpenVinoForward

    return OpenVinoForward(path, task, threads or 0)
  from bert_jax.engines.onnx import OnnxForward

  return OnnxForward(path, task, threads or 0)
