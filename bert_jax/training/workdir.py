"""The folder of a run or a saved model: its config, task and vocabulary."""

import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bert_jax import settings, tasks, text, trees
from bert_jax.cluster import processes
from bert_jax.cluster.run_folder import CHECKPOINTS, Folder
from bert_jax.interop import hub, peft
from bert_jax.interop.name_table import LoadedParams
from bert_jax.interop.peft import Adapter
from bert_jax.interop.pretrained import (
  Place,
  Pretrained,
  shapes_of,
  with_pooler,
)
from bert_jax.interop.published import open_published
from bert_jax.models import low_rank, quantization
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths
from bert_jax.tasks.data import TrainingData
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer, fingerprint
from bert_jax.training import parametrizations, trained_only
from bert_jax.training.distillation import features
from bert_jax.training.parametrizations import parametrization
from bert_jax.training.parametrizations.parametrization import Parametrization
from bert_jax.types import Parameters, TrainState

if TYPE_CHECKING:
  from bert_jax.training.recipe import Recipe

MODEL_FILE = "bert_jax.json"
TOKENIZER = "tokenizer"

# Keys that a resumed run may change: they do not affect what is learned. Paths
# may change, since the data themselves are checked, also of the parts of
# multi-task training.
MAY_CHANGE = (
  "checkpoint",
  "compiler_options",
  "corpus",
  "data.corpus",
  "data.eval",
  "data.train",
  "data.tokenizer",
  "evaluation",
  "exits.entropy",
  "exits.patience",
  "exits.tolerance",
  "guard.max_skipped",
  "guard.stuck_seconds",
  "logging",
  "mesh",
  "workers",
)
_PART = re.compile(r"^data\.tasks\.[^.]+\.")


def is_run(where: paths.Path) -> bool:
  """Whether a folder has a run or a model saved in our format.

  Raises:
    UserError: it is in a store that cannot be reached.
  """
  if os.fspath(where).startswith(hub.PREFIX):
    return False
  return paths.exists(paths.as_path(where) / MODEL_FILE)


def claim(
  folder: Folder, recipe: "Recipe", task: Task, data: TrainingData
) -> None:
  """Writes the config of a run, or checks that the folder's is the same.

  The folder is locked; task and data are made by the recipe.

  Raises:
    UserError: the folder has a run with another config or other data.
  """
  # Through JSON and back, to compare it with the saved one.
  config = json.loads(json.dumps(recipe.to_dict()))
  config["model"]["vocab_size"] = task.config.vocab_size
  fingerprint = data.fingerprint()
  processes.on_first(lambda: _claim(folder, task, config, fingerprint))


def _claim(
  folder: Folder, task: Task, config: Mapping[str, Any], data: Any
) -> None:
  workdir = folder.where
  if not (folder.here / MODEL_FILE).exists():
    _write(folder.here, task, {"config": config, "data": data})
    folder.put()
    return
  run = _read(workdir)["run"]
  if run is None:
    raise UserError(
      f"--workdir {workdir} has a model and no run; choose another folder, with"
      f" --config.init={workdir}"
    )
  changes = differences(_with_defaults(run["config"]), config)
  if run["data"] != data:
    changes.append(
      "the training data are not those that the run started with"
      + (", or the teacher is another" if config["teacher"]["models"] else "")
    )
  if changes:
    raise UserError(
      f"--workdir {workdir} has a run with another config; choose another"
      f" folder, or undo: {'; '.join(changes)}"
    )


def differences(
  old: Mapping[str, Any], new: Mapping[str, Any], path: str = ""
) -> list[str]:
  """The config diff: one line for each key that differs.

  Keys in `MAY_CHANGE` are ignored.
  """
  lines = []
  for key in sorted({*old, *new}):
    name = f"{path}{key}"
    if _PART.sub("data.", name) in MAY_CHANGE:
      continue
    before, after = old.get(key), new.get(key)
    if isinstance(before, Mapping) and isinstance(after, Mapping):
      lines += differences(before, after, f"{name}.")
    elif before != after:
      lines.append(f"config.{name}: {before!r} -> {after!r}")
  return lines


def _with_defaults(config: Mapping[str, Any]) -> Mapping[str, Any]:
  """A saved config, with defaults for keys that were added since."""
  from bert_jax.training.recipe import Recipe

  try:
    return json.loads(json.dumps(Recipe.from_dict(config).to_dict()))
  except UserError:  # Of a version with other keys: they are in the diff.
    return config


def open_model(
  where: paths.Path, ignore_unexpected: bool = False, step: int | None = None
) -> Pretrained:
  """Opens a model, trained here or published; its weights are not read yet.

  Args:
    where: the `--workdir` of a run, or what `open_published` takes.
    ignore_unexpected: of published models, see `name_table.read_params`.
    step: of the checkpoint of a run; None for the best, or else the newest.

  Raises:
    UserError: there is no such model, or it is damaged or not supported.
  """
  if not is_run(where):
    if step is not None:
      raise UserError(f"step: {where} is no run, whose checkpoints have steps")
    return open_published(where, ignore_unexpected, open_model)
  # It imports Orbax, which published models do without.
  from bert_jax.checkpointing import parameters

  run = _open_run(where, step)
  saved_in, task, parts = run.saved_in, run.task, run.parts
  config = task.config

  def computed(params: Parameters) -> Parameters:
    return parametrization.merge(quantization.dequantize(params), parts)

  def read(_: Task, wanted: Parameters, place: Place | None) -> LoadedParams:
    saved = parameters.saved_paths(saved_in)
    wanted = with_pooler(wanted, config, saved.__contains__)
    found = {"encoder", *(path.split("/")[0] for path in saved)}
    own = {features.NAME, *(part.name for part in parts)}
    there = {name: tree for name, tree in wanted.items() if name in found - own}
    there |= parametrization.shapes(there, parts)
    if quantization.is_quantized(saved):
      there = quantization.stored_shapes(there, saved)
    frozen = _frozen(where, run, saved)
    if frozen:
      flat = trees.flatten(there)
      stored = {path: x for path, x in flat.items() if path not in frozen}
      params = parameters.restore_step(saved_in, trees.unflatten(stored))
      params = trees.unflatten(frozen | trees.flatten(params))
    else:
      params = parameters.restore_step(saved_in, there)
    if parts or quantization.is_quantized(saved):
      params = jax.jit(computed)(params)
    if place is not None:
      params = trees.map_with_path(
        lambda path, x: place(path, np.asarray(x)), params
      )
    return LoadedParams(params, tuple(sorted(set(wanted) - set(params))))

  return Pretrained(
    str(paths.as_path(where)),
    config,
    task.bind(None, None),
    task.tokenizer,
    read,
  )


def _frozen(
  where: paths.Path, run: "_Run", saved: Collection[str]
) -> dict[str, Any]:
  """The parameters by path that `trained_only` left to `config.init`."""
  if trained_only.CHECKSUM not in run.metadata:
    return {}
  try:
    init = open_model(run.config["init"])
  except UserError as error:
    raise UserError(f"{where}: its config.init {error}") from error
  task = tasks.EMBEDDING.bind(run.task.config, run.task.tokenizer)
  flat = trees.flatten(init.params(task).params["encoder"])
  flat = {f"encoder/{path}": x for path, x in flat.items()}
  frozen = {path: x for path, x in flat.items() if path not in saved}
  trained_only.check(run.metadata, frozen, run.config["init"])
  return frozen


class _Run(NamedTuple):
  """An opened run: a checkpoint, the bound task, and how it was trained."""

  saved_in: Any
  metadata: Mapping[str, Any]
  task: Task
  parts: Sequence[Parametrization]
  config: Mapping[str, Any]


def _open_run(where: paths.Path, step: int | None = None) -> _Run:
  from bert_jax.checkpointing import checkpoints, parameters

  workdir = paths.as_path(where)
  entry, source = _read(workdir), workdir / MODEL_FILE
  tokenizer = _tokenizer(workdir, entry)
  if step is None:
    saved_in = parameters.best_folder(workdir / CHECKPOINTS)
  else:
    saved_in = parameters.step_folder(workdir / CHECKPOINTS, step)
  # A model that was not trained here was not tuned here either.
  metadata = checkpoints.metadata(saved_in)
  state = metadata.get("task", entry["task"])
  task = tasks.from_state(state, f"{source}: task")
  config = settings.from_dict(EncoderConfig, entry["model"], f"{source}: model")
  # The backend of the run may not exist where the model is used.
  config = dataclasses.replace(config, attention="auto")
  run = entry["run"]["config"] if entry["run"] else {}
  parts = parametrizations.of_config(run, config, f"{source}: run: config")
  return _Run(saved_in, metadata, task.bind(config, tokenizer), parts, run)


def adapted(where: paths.Path) -> str | None:
  """The model that the adapter in a folder was trained on.

  Args:
    where: what `open_model` takes.

  Returns:
    What `open_model` takes; None if there is no adapter.

  Raises:
    UserError: a file is damaged, or a folder of peft does not say.
  """
  if is_run(where):
    run = run_config(where)
    return run["init"] if run.get("lora", {}).get("rank") else None
  folder = local_folder(where)
  return peft.base_of(folder) if peft.is_adapter(folder) else None


def open_adapter(where: paths.Path, base: Task) -> Adapter:
  """Reads what was trained in place of an encoder.

  Args:
    where: a run that trained adapters, or a folder of peft.
    base: the bound task of the model that it is for.

  Raises:
    UserError: there is no adapter, or it is damaged, or for another model.
  """
  if not is_run(where):
    folder = local_folder(where)
    if not peft.is_adapter(folder):
      raise UserError(
        f"{where}: no adapter; expected a run with config.lora, or a folder of"
        f" peft with {peft.CONFIG_FILE}"
      )
    return peft.read(folder, base)
  from bert_jax.checkpointing import parameters

  saved_in, _, task, parts, config = _open_run(where)
  if [part.name for part in parts] != ["lora"]:
    raise UserError(f"{where}: a run that did not train adapters alone")
  if fingerprint(task.tokenizer) != fingerprint(base.tokenizer):
    raise UserError(f"{where}: an adapter for a model with another vocabulary")
  shapes = shapes_of(task)
  own = {name: x for name, x in shapes.items() if name != "encoder"}
  found = parameters.restore_step(
    saved_in, own | parametrization.shapes(shapes, parts)
  )
  products = parts[0].products(found.pop("lora"))
  of_heads = {
    path: products.pop(path)
    for path in [*products]
    if path.split("/")[0] in own
  }
  params = low_rank.merged(low_rank.attach(found, of_heads))
  return Adapter(
    str(where), config["init"], task, products, jax.device_get(params)
  )


def local_folder(where: paths.Path) -> pathlib.Path:
  """The folder of a published model on this machine; it is downloaded."""
  if os.fspath(where).startswith(hub.PREFIX):
    return hub.download(os.fspath(where))
  return paths.local(where)


def verify(where: paths.Path) -> None:
  """Verifies the config and the vocabulary of a run, but no checkpoint.

  Raises:
    UserError: they are missing or damaged, or do not belong together.
  """
  workdir = paths.as_path(where)
  if not is_run(where):
    raise UserError(f"{workdir / MODEL_FILE} is missing")
  _tokenizer(workdir, _read(workdir))


def _tokenizer(workdir: Any, entry: Mapping[str, Any]) -> Tokenizer | None:
  folder = workdir / TOKENIZER
  tokenizer = text.load(folder) if paths.exists(folder) else None
  if fingerprint(tokenizer) != entry["vocabulary"]:
    raise UserError(
      f"{folder}: this is not the vocabulary that the model was trained with"
    )
  return tokenizer


def vocabulary_of(where: paths.Path) -> pathlib.Path:
  """The folder of a model's vocabulary, to be read by `bert_jax.text.load`.

  Args:
    where: as for `open_model`, but no zip.

  Raises:
    UserError: there is no such model.
  """
  if (base := adapted(where)) and not is_run(where):
    return vocabulary_of(base)
  if str(where).startswith(hub.PREFIX):
    return hub.download(str(where))
  folder = paths.as_path(where)
  if not paths.is_folder(folder):
    raise UserError(
      f"config.init: {where}: expected a folder or hf://ORG/NAME; unpack a zip"
      " to prepare text for it"
    )
  return paths.local(folder / TOKENIZER if is_run(folder) else folder)


def save(task: Task, params: Parameters, workdir: pathlib.Path) -> None:
  """Saves a model that was not trained here, for `open_model`.

  Raises:
    UserError: it could not be written.
  """
  from bert_jax.checkpointing.checkpoints import Checkpoints

  workdir.mkdir(parents=True, exist_ok=True)
  state = TrainState(jnp.zeros((), jnp.int32), params, (), jax.random.key(0))
  with Checkpoints(workdir / CHECKPOINTS) as checkpoints:
    checkpoints.save(state, {})
  _write(workdir, task, run=None)


def steps(where: paths.Path) -> list[int]:
  """The steps of a run's finished checkpoints, ascending.

  Raises:
    UserError: there is no run, or its folder is in a store that cannot be
      reached.
  """
  if not is_run(where):
    raise UserError(f"{where} is no run, whose checkpoints have steps")
  from bert_jax.checkpointing import manifest

  return manifest.finished_steps(paths.as_path(where) / CHECKPOINTS)


def run_config(where: paths.Path) -> Mapping[str, Any]:
  """The config of a run; empty for a model that is no run.

  Raises:
    UserError: the folder's files are damaged.
  """
  run = _read(paths.as_path(where))["run"] if is_run(where) else None
  return run["config"] if run else {}


def metric(workdir: Any) -> str:
  """The metric that a run's recipe follows; empty if it follows none."""
  return run_config(workdir).get("evaluation", {}).get("metric", "")


def _write(
  workdir: pathlib.Path, task: Task, run: Mapping[str, Any] | None
) -> None:
  if task.tokenizer is not None:
    task.tokenizer.save(workdir / TOKENIZER)
  entry = {
    "task": task.state(),
    "model": dataclasses.asdict(task.config),
    "vocabulary": fingerprint(task.tokenizer),
    "run": run,
  }
  text = json.dumps(entry, indent=2) + "\n"
  folders.write_text(workdir / MODEL_FILE, text)


def _read(workdir: Any) -> Mapping[str, Any]:
  path = workdir / MODEL_FILE
  data = paths.read_bytes(path)
  try:
    entry = json.loads(data.decode())
    names = ("task", "model", "vocabulary", "run")
    entry = {name: entry[name] for name in names}
    run = entry["run"]
    if run is not None:
      entry["run"] = {name: run[name] for name in ("config", "data")}
  except (ValueError, KeyError, TypeError, RecursionError) as error:
    raise UserError(f"{path}: damaged ({error!r})") from error
  if isinstance(entry["task"], str):
    raise UserError(
      f"{path}: written by an older version of bert_jax, whose format is no"
      " longer read; convert it with that version to a Hugging Face folder"
    )
  if not isinstance(entry["task"], Mapping):
    raise UserError(
      f"{path}: damaged (task: expected a mapping, got {entry['task']!r:.80})"
    )
  return entry
