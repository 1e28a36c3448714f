"""Opens a model with an engine, and tries it out before it serves."""

import contextlib
import fcntl
import glob
import importlib.util
import json
import os
import pathlib
import shutil
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from bert_jax.data.sources.labelled import Record
from bert_jax.models.exits import Exits
from bert_jax.predictor import Predictor
from bert_jax.serving import versions
from bert_jax.serving.logs import event
from bert_jax.serving.settings import ServeSettings
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.tasks import TASKS
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import mask_name

CANARY = "canary.jsonl"
"""The file of records that a new version must answer."""


class Export(Protocol):
  """Exports models as ONNX, in processes of their own."""

  def __call__(self, where: str, folder: pathlib.Path, runtime: str) -> None:
    """Exports a model into a new folder; UserError if it cannot."""

  def stop(self) -> None:
    """Ends a process that exports now."""


_RUNTIMES = {"onnx": "onnxruntime", "openvino": "openvino", "jax": "jax"}
_TEXTS = (
  "The quick brown fox jumps over the lazy dog.",
  "A man plays the guitar in front of a small crowd in Paris.",
)


class Opener:
  """Opens models.

  Attributes:
    settings: of the server.
    threads: that compute a batch.
  """

  def __init__(
    self, settings: ServeSettings, export: Export, folder: pathlib.Path
  ):
    """Opens nothing yet.

    Args:
      settings: of the server.
      export: exports a model to ONNX, in a process of its own: what that needs
        is not kept in memory.
      folder: for such exports; several processes may share it.
    """
    self.settings = settings
    cores = len(os.sched_getaffinity(0))
    self.threads = settings.threads or max(1, cores // settings.workers)
    self._export, self._folder = export, folder
    # Those in use, by place and fingerprint.
    self._models: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
    self._loading = threading.Lock()

  def open(self, where: str) -> tuple[Predictor, str]:
    """A model, and the name of its engine.

    Raises:
      UserError: there is no such model, it is damaged, or the engine or what
        exports it is not installed.
    """
    from bert_jax import exported

    engine = self.settings.engine
    is_export = exported.is_export(where)
    if engine == "auto":
      is_compiled = (
        _kind(where) != "onnx"
        if is_export
        else has_gpu() or _writes(where) or _leaves_early(where)
      )
      engine = "jax" if is_compiled else "onnx"
    if engine == "jax" and not is_export:
      with self._loading:
        return self._loaded(where), engine
    folder = where if is_export else self._exported(where, engine)
    # jax has one pool of threads, for all cores.
    threads = None if engine == "jax" else self.threads
    runtime = _RUNTIMES[engine]
    return exported.load(folder, engine=runtime, threads=threads), engine

  def stop(self) -> None:
    """Ends an export that is being made, and removes all of them."""
    self._export.stop()
    if self.settings.workers == 1:
      shutil.rmtree(self._folder, ignore_errors=True)

  def _loaded(self, where: str) -> Predictor:
    """A model in JAX; adapters share the arrays of the model they are for."""
    from bert_jax import loading
    from bert_jax.training import workdir

    if (base := workdir.adapted(where)) is not None:
      return self._loaded(base).with_adapter(where)
    key = where, versions.fingerprint(where)
    found = self._models.get(key)
    if found is None:
      found = self._models[key] = loading.load(where)
    return found

  def _exported(self, where: str, engine: str) -> str:
    """The folder of an export of a model; made unless it is there."""
    fingerprint = versions.fingerprint(where)
    folder = self._folder / f"{pathlib.Path(where).name}-{fingerprint}"
    with _locked(self._folder / "lock"):
      if not versions.is_export(str(folder)):
        event("exporting to ONNX", where=where, folder=str(folder))
        runtime = "standard" if engine == "openvino" else "onnxruntime"
        self._export(where, folder, runtime)
    return str(folder)


def _kind(where: str) -> str:
  """The kind of an export."""
  # A damaged manifest is told of when the export is loaded.
  with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
    manifest = paths.as_path(where) / versions.EXPORTED
    return json.loads(paths.read_bytes(manifest))["kind"]
  return "onnx"


def _writes(where: str) -> bool:
  """Whether a model of ours writes, which exports do not."""
  with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
    entry = json.loads(paths.read_bytes(paths.as_path(where) / versions.MODEL))
    return TASKS[entry["task"]["name"]].writes
  return False


def _leaves_early(where: str) -> bool:
  """Whether a model of ours has early exits by default, which exports lack."""
  with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
    entry = json.loads(paths.read_bytes(paths.as_path(where) / versions.MODEL))
    return Exits(**entry["task"].get("exits", {})).is_used
  return False


def has_gpu() -> bool:
  """Whether jax, not imported here, would compute on a GPU or TPU."""
  told = os.environ.get("JAX_PLATFORMS")
  if told:
    return told != "cpu"

  def installed(*names: str) -> bool:
    return any(importlib.util.find_spec(name) for name in names)

  if glob.glob("/dev/nvidia[0-9]*"):
    return installed("jax_cuda13_plugin", "jax_cuda12_plugin")
  if glob.glob("/dev/kfd"):
    return installed("jax_rocm7_plugin", "jax_rocm60_plugin")
  tpus = glob.glob("/dev/accel*") + glob.glob("/dev/vfio/[0-9]*")
  return bool(tpus) and installed("libtpu")


@contextlib.contextmanager
def _locked(path: pathlib.Path) -> Any:
  """Holds a lock among processes."""
  with path.open("w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    yield


def canary_records(task: Task, folders: Sequence[str]) -> list[Record]:
  """Records to try a model with.

  Args:
    task: of the model.
    folders: where `canary.jsonl` is looked for; without one, there are
      built-in texts.

  Raises:
    UserError: the file cannot be read.
  """
  for folder in folders:
    path = pathlib.Path(folder) / CANARY
    if path.is_file():
      return _read(path)
  if task.parts:
    return [
      {"task": name, **record}
      for name, part in task.parts.items()
      for record in canary_records(part, ())
    ]
  inputs = task.inputs
  record: dict[str, Any] = {}
  for number, name in enumerate(inputs.FIELDS):
    if name in inputs.LISTS:
      record[name] = [text.split()[0] for text in _TEXTS]
    elif name not in inputs.OPTIONAL and name not in inputs.PREDICTION:
      record[name] = _TEXTS[number % 2]
  if getattr(inputs, "pair_required", False):
    record["pair"] = _TEXTS[1]
  tokenizer = task.tokenizer
  if tokenizer is not None and tokenizer.special.mask is not None:
    masked = {**record, "text": f"{mask_name(tokenizer).strip()} {_TEXTS[0]}"}
    if "masked_lm" in task.targets:
      return [masked]
  return [record]


def _read(path: pathlib.Path) -> list[Record]:
  found = []
  try:
    lines = path.read_text("utf-8").splitlines()
    found += [json.loads(line) for line in lines if line.strip()]
  except (OSError, ValueError, RecursionError) as error:
    raise UserError(f"{path}: cannot be read: {error}") from error
  if not found or not all(isinstance(record, dict) for record in found):
    raise UserError(f"{path}: expected a JSON object in each line")
  return found


def outputs_of(task: Task) -> Mapping[str, Any]:
  """What the answers of a task mean: its targets with labels or widths."""
  found: dict[str, Any] = {}
  for prefix, part in (task.parts or {"": task}).items():
    for name, target in part.targets.items():
      meaning: Any = None
      if hasattr(target, "names"):
        meaning = list(target.names)
      elif hasattr(target, "width"):
        meaning = target.width(part.config)
      found[f"{prefix}/{name}".lstrip("/")] = (type(target).__name__, meaning)
  return found


def check_same_outputs(old: Task, new: Task) -> None:
  """Refuses a new version whose answers mean something else.

  Raises:
    UserError: the task, the labels or the width of vectors differ.
  """
  known, given = outputs_of(old), outputs_of(new)
  if known != given:
    raise UserError(
      f"its outputs are {given!r:.200}, and those of the current version"
      f" {known!r:.200}; --allow_changed_outputs accepts that"
    )
