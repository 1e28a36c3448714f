"""Exports a model: a folder that is complete once it has a manifest."""

import dataclasses
import importlib.metadata
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import safetensors.numpy

from bert_jax import exported, model, settings
from bert_jax.checkpointing import manifest
from bert_jax.data.sources.labelled import Record
from bert_jax.export import card, check, triton
from bert_jax.export.parts import parts
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths
from bert_jax.tasks.task import Task

LAYOUTS = ("folder", "triton")


@dataclasses.dataclass(frozen=True)
class Options:
  """How a model is exported; each option is of some kinds only.

  Attributes:
    runtime: onnx: `standard` has standard operators only, `onnxruntime` some of
      ONNX Runtime's own, which are faster there.
    layout: onnx: `folder`, or `triton` for a folder of Triton's model
      repository, whose name is that of the model.
    bits: onnx: 8 for dense layers with weights of 8 bits, which only ONNX
      Runtime runs; 0 for float32.
    records: onnx, with `bits`: such as the model will be used on, to measure
      what the bits cost; see `onnx.measure_bits`.
    weights: onnx, stablehlo: `beside` the model in a file of their own, or
      `inside` of it, up to 1.5 GB.
    platforms: stablehlo: those that the program runs on.
    length: tflite: the tokens of a row; 0 for the longest of the task.
  """

  runtime: str = "standard"
  layout: str = "folder"
  bits: int = 0
  records: Sequence[Record] = ()
  weights: str = "beside"
  platforms: Sequence[str] = ("cpu", "cuda", "tpu")
  length: int = 0


_OF_KINDS: Mapping[str, tuple[str, ...]] = {
  "onnx": ("runtime", "layout", "weights", "bits", "records"),
  "stablehlo": ("weights", "platforms"),
  "savedmodel": (),
  "tflite": ("length",),
  "huggingface": (),
}
KINDS = tuple(_OF_KINDS)


def export(
  source: model.Model,
  output: paths.Path,
  to: str = "onnx",
  **options: Any,
) -> dict[str, Any]:
  """Exports a model to a folder; all of it or nothing is written.

  >>> export(bert_jax.load("runs/sentiment"), "exports/sentiment")
  >>> bert_jax.load("exports/sentiment")("A gripping film.")

  The outputs of all kinds but `huggingface` are compared with those of JAX
  before the folder is in place. They are computed in float32, whatever the
  model's dtype.

  Args:
    source: the model.
    output: a new or an empty folder, here or in an object store.
    to: one of `KINDS`.
    **options: of the kind; see `Options`.

  Returns:
    The manifest.

  Raises:
    UserError: the folder is not empty or cannot be written, the kind or an
      option is unknown, a package that the kind needs is not installed, or the
      outputs differ by more than `check.TOLERANCE`, or those of 8 bits by more
      than `onnx.measure_bits` allows.
  """
  own = settings.choice("export: to", to, _OF_KINDS)
  for name in options:
    kinds = [kind for kind, names in _OF_KINDS.items() if name in names]
    if kinds and name not in own:
      raise UserError(f"{name} goes with {' or '.join(kinds)}, not with {to}")
    settings.choice("export: option", name, dict.fromkeys(own))
  chosen = Options(**options)
  settings.choice("layout", chosen.layout, dict.fromkeys(LAYOUTS))
  if chosen.bits not in (0, 8):
    raise UserError(f"bits: expected 8, or 0 for float32, got {chosen.bits}")
  folder = paths.as_path(output)
  place = pathlib.PurePath(str(output).rstrip("/"))
  name = place.name
  if chosen.layout == "triton":
    triton.check_name(name)
  folders.check_new(folder)
  config = dataclasses.replace(
    source.config,
    dtype="float32",
    dense_dtype="",
    attention="auto",
    remat="none",
  )
  source = source.in_float32()
  task = source.task.bind(config, source.tokenizer)
  if to != "huggingface":
    _check_reads(task)
  parts(task, source.params)  # Refuses an ensemble, before anything is written.
  try:
    with folders.atomic_folder(folder, last=manifest.NAME) as here:
      about = {
        "format": exported.FORMAT,
        "format_version": exported.FORMAT_VERSION,
        "kind": to,
        **_WRITE[to](source, task, here, chosen),
        "versions": _versions(to),
        "encoder": dataclasses.asdict(config),
        "task": task.state(),
        "tokenizer": task.tokenizer is not None,
      }
      if task.tokenizer is not None and to != "huggingface":
        task.tokenizer.save(here)
      if chosen.layout == "triton":
        tensors = about["inputs"], about["outputs"]
        (here / triton.CONFIG).write_text(triton.config(name, *tensors))
      # The folder of a version has its number as its name.
      title = f"{place.parent.name} {name}" if name.isdigit() else name
      content = card.text(title.strip(), task, about)
      folders.write_text(here / card.NAME, content)
      manifest.write(here, about=about)
      written = manifest.read(here)
  except OSError as error:
    raise UserError(f"cannot write {folder}: {error}") from error
  return written


def _check_reads(task: Task) -> None:
  """Raises a `UserError` for a task that writes: exports are forward passes."""
  for name, part in (task.parts or {task.name: task}).items():
    if part.writes:
      raise UserError(
        f"export: the task {name} writes token by token, which only"
        " --to=huggingface offers; bert_jax loads that folder with"
        " --task=generation, and serves it with --engine=jax"
      )


def _versions(kind: str) -> dict[str, str]:
  """The versions of the packages that made an export."""
  packages = {
    "onnx": ("onnx", "onnxruntime"),
    "savedmodel": ("tensorflow", "tensorflow-cpu"),
    "tflite": ("tensorflow", "tensorflow-cpu"),
  }
  found = {}
  for name in ("bert_jax", "jax", "jaxlib", "numpy", *packages.get(kind, ())):
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      continue  # A checkout, or TensorFlow under its other name.
  return found


def _write_onnx(
  source: model.Model, task: Task, here: pathlib.Path, options: Options
) -> dict[str, Any]:
  from bert_jax.engines.onnx import OnnxForward

  try:
    from bert_jax.export import onnx
  except ImportError as error:
    raise UserError(
      'the package onnx is not installed; run pip install "bert_jax[export]"'
    ) from error
  path = here / exported.MODELS["onnx"]
  if options.layout == "triton":
    path = here / triton.VERSION / path.name
    path.parent.mkdir()
  # Dense layers of 8 bits are an operator of its own.
  runtime = "onnxruntime" if options.bits else options.runtime
  made = onnx.build(task, source.params, runtime)
  files = onnx.save(made, path, options.weights)
  measured = {"largest_difference": onnx.check(path, task, source.params)}
  if options.bits:
    exact = OnnxForward(path, task)
    made = onnx.quantize(made)
    for name in files:
      path.with_name(name).unlink()
    onnx.save(made, path, options.weights)
    found = OnnxForward(path, task)
    measured = {
      "largest_difference": None,
      "bits": options.bits,
      "measured": onnx.measure_bits(exact, found, task, options.records),
    }
  return {
    "model": path.relative_to(here).as_posix(),
    "runtime": runtime,
    **onnx.describe(made),
    **measured,
  }


def _write_stablehlo(
  source: model.Model, task: Task, here: pathlib.Path, options: Options
) -> dict[str, Any]:
  from bert_jax.engines.stablehlo import StableHloForward
  from bert_jax.export import stablehlo

  program = stablehlo.build(
    task, source.params, options.weights, options.platforms
  )
  path = here / exported.MODELS["stablehlo"]
  path.write_bytes(program.data)
  about = {"model": path.name}
  if program.weights is not None:
    about["weights"] = exported.WEIGHTS
    safetensors.numpy.save_file(program.weights, here / exported.WEIGHTS)
  forward = StableHloForward(path, task, program.weights)
  return {
    **about,
    "platforms": list(options.platforms),
    "calling_convention_version": program.version,
    "inputs": program.inputs,
    "outputs": program.outputs,
    "largest_difference": check.compare(forward, path, task, source.params),
  }


def _write_savedmodel(
  source: model.Model, task: Task, here: pathlib.Path, options: Options
) -> dict[str, Any]:
  from bert_jax.export import savedmodel

  path = here / exported.MODELS["savedmodel"]
  about = savedmodel.save(task, source.params, path)
  forward = savedmodel.SavedModelForward(path, task)
  return {
    "model": path.name,
    **about,
    "largest_difference": check.compare(forward, path, task, source.params),
  }


def _write_tflite(
  source: model.Model, task: Task, here: pathlib.Path, options: Options
) -> dict[str, Any]:
  from bert_jax.export import savedmodel

  length = options.length or task.inputs.limit(task.config)
  path = here / exported.MODELS["tflite"]
  about = savedmodel.save_tflite(task, source.params, path, length)
  forward = savedmodel.TFLiteForward(path, task, length)
  return {
    "model": path.name,
    **about,
    "largest_difference": check.compare(
      forward, path, task, source.params, sorted({min(16, length), length})
    ),
  }


def _write_huggingface(
  source: model.Model, task: Task, here: pathlib.Path, options: Options
) -> dict[str, Any]:
  model.save(source, here)
  return {"largest_difference": None}


_Write = Callable[[model.Model, Task, pathlib.Path, Options], dict[str, Any]]
_WRITE: Mapping[str, _Write] = {
  "onnx": _write_onnx,
  "stablehlo": _write_stablehlo,
  "savedmodel": _write_savedmodel,
  "tflite": _write_tflite,
  "huggingface": _write_huggingface,
}
