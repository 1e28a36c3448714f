"""Loads models of every kind."""

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bert_jax import exported, settings
from bert_jax.models.exits import Exits
from bert_jax.predictor import Predictor
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.tasks import EMBEDDING

if TYPE_CHECKING:
  import jax

  from bert_jax.model import Model


def load(
  where: paths.Path,
  task: str | None = None,
  *,
  labels: Sequence[str] | Mapping[str, Sequence[str]] | None = None,
  num_labels: int | None = None,
  dtype: str | None = None,
  mesh: "jax.sharding.Mesh | None" = None,
  batch_size: int = 32,
  split_special_tokens: bool | None = None,
  ignore_unexpected: bool = False,
  step: int | None = None,
  exits: Mapping[str, Any] | None = None,
) -> "Model | Predictor":
  """Loads a model.

  >>> model = bert_jax.load("hf://sentence-transformers/all-MiniLM-L6-v2")
  >>> model = bert_jax.load("runs/base", "classification", num_labels=3)

  Warns where the task's head is not among the weights: it then has initial
  values.

  Args:
    where: the `--workdir` of a training run; a folder of Hugging Face or of
      peft, or `hf://org/name[@revision]`; a BERT release of Google's, a folder
      or zip; an export (see `bert_jax.exported`), of which only `task` and
      `batch_size` may be given. All but `hf://` may be in an object store,
      `gs://...` or `s3://...`.
    task: a name in `bert_jax.tasks.TASKS`, or of a part of a multi-task model;
      by default the task that the model's head is for.
    labels: the names of the labels; for a task with several targets a list for
      each, by the target's name. A head with other numbers of labels is
      replaced by a new one.
    num_labels: the number of labels, of a new head `LABEL_0` and so on.
    dtype: what the encoder computes in, "float32" or "bfloat16"; by default
      that of the model. Parameters stay float32. With "int8" or "int4" kernels
      and embeddings are kept in 8 or 4 bits (see `models.quantization`), and
      products are computed in the model's dtype; with "int8_dynamic" those of
      dense layers are of integers, as activations are rounded to 8 bits too.
    mesh: a mesh with the axes `data`, `fsdp` and `model` to lay the
      parameters over and to split rows over; by default all local devices,
      each with a copy. A vocabulary that does not divide over it is padded;
      the outputs, and what is saved for Transformers, stay the same.
    batch_size: rows that go through the model at once, at most.
    split_special_tokens: whether a special token that is typed in a text, such
      as `[MASK]`, is text. By default as the folder's `tokenizer_config.json`
      says, and otherwise True for the model's own special tokens; False is the
      default of Transformers.
    ignore_unexpected: whether published weights that the model has no place for
      are left out, with a warning that lists them; else they are an error.
    step: of the checkpoint of a run; by default the best that verifies, or
      else the newest.
    exits: of a model with early exits, when rows leave: `{"patience": 2}`,
      `{"entropy": 0.2}`, or `{}` for never (see `models.exits.Exits`); by
      default as the model says.

  Returns:
    The model. Of an export a `Predictor`, for which JAX is not imported.

  Raises:
    UserError: there is no such model or task, or it is damaged or not
      supported.
  """
  if exported.is_export(where):
    given = {
      "labels": labels,
      "num_labels": num_labels,
      "dtype": dtype,
      "mesh": mesh,
      "split_special_tokens": split_special_tokens,
      "ignore_unexpected": ignore_unexpected or None,
      "step": step,
      "exits": exits,
    }
    for name, value in given.items():
      if value is not None:
        raise UserError(
          f"{name}: {where} is an export, which cannot be changed; export the"
          " model with it"
        )
    return _open_export(where, task, batch_size)
  import jax

  from bert_jax.model import Model
  from bert_jax.models import quantization
  from bert_jax.training import workdir
  from bert_jax.training.mesh import meshes, partitioning

  pretrained = workdir.open_model(where, ignore_unexpected, step)
  if task in pretrained.task.parts:
    pretrained, task = pretrained.part(task), None
  bits = {name: bits for bits, name in quantization.BITS.items()}.get(dtype)
  changes = {}
  if dtype == "int8_dynamic":
    bits, changes = 8, {"dense_dtype": "int8"}
  elif dtype is not None and bits is None:
    changes = {"dtype": dtype}
  if changes:
    config = settings.replace(pretrained.config, changes, "load")
    pretrained = dataclasses.replace(pretrained, config=config)
  if split_special_tokens is not None and pretrained.tokenizer is not None:
    changed = pretrained.tokenizer.with_split_special_tokens(
      split_special_tokens
    )
    pretrained = dataclasses.replace(pretrained, tokenizer=changed)
  pretrained = pretrained.for_task(task)
  made = pretrained.make_task(task)
  if num_labels is not None:
    if labels is not None or num_labels < 1:
      raise UserError(
        f"num_labels: expected at least 1 without labels, got {num_labels}"
      )
    labels = [f"LABEL_{id}" for id in range(num_labels)]
  if labels is not None:
    renamed = made.with_labels(labels)
    is_own = made.name == pretrained.task.name
    if is_own and renamed.num_outputs == made.num_outputs:
      renamed = made if num_labels is not None else renamed
      pretrained = dataclasses.replace(pretrained, task=renamed)
    made = renamed
  if exits is not None:
    made = made.with_exits(_exits(where, made.exits, exits))
  if mesh is None and jax.local_device_count() > 1:
    mesh = meshes.make_mesh(meshes.MeshConfig(), jax.local_devices())
  place = None
  if mesh is not None:
    layout = partitioning.Layout(mesh)
    config = partitioning.with_padded_vocabulary(layout, made.config)
    made = made.bind(config, made.tokenizer)
    place = functools.partial(partitioning.put_parameter, layout)
  params, newly_initialized = pretrained.params(made, place)
  if newly_initialized and made.writes:
    raise UserError(
      f"{where} has no {', '.join(newly_initialized)}, the head that writes"
      f" text; train one with `bert-jax train --config.task={made.name}"
      f" --config.init={where} ...`"
    )
  if newly_initialized and labels is None:
    warnings.warn(
      f"{where} has no {', '.join(newly_initialized)} for the task"
      f" {made.name}: its values are random, and so are the answers, until it"
      " is trained",
      stacklevel=2,
    )
  model = Model(made, params, batch_size, mesh)
  return model if bits is None else model.in_bits(bits)


def load_model(
  where: paths.Path, task: str | None = None, **options: Any
) -> "Model":
  """As `load`, for what needs a model's parameters.

  Raises:
    UserError: as `load`; or it is an export.
  """
  if exported.is_export(where):
    raise UserError(
      f"{where} is an export, whose parameters are not at hand; name the model"
      " that it was made from"
    )
  return load(where, task, **options)


def load_adapted(where: paths.Path, **options: Any) -> "Model":
  """The model that an adapter was trained on, with the adapter beside it.

  Args:
    where: a run that trained adapters, or a folder of peft.
    **options: of `load`, for the model.

  Raises:
    UserError: there is no adapter, or its model cannot be loaded.
  """
  from bert_jax.training import workdir

  base = workdir.adapted(where)
  if base is None:
    raise UserError(
      f"{where}: no adapter; expected a run with config.lora, or a folder of"
      " peft"
    )
  return load_model(base, **options).with_adapter(where)


def _exits(where: paths.Path, own: Exits, given: Mapping[str, Any]) -> Exits:
  """A model's early exits with other settings."""
  if not own.every:
    raise UserError(
      f"exits: {where} has no early exits for this task; they are trained with"
      " --config.exits.every=1"
    )
  if "every" in given:
    raise UserError("exits.every: it is fixed by training")
  never = dataclasses.replace(own, patience=0, entropy=0.0)
  return settings.replace(never, given, "exits")


def _open_export(
  where: paths.Path, task: str | None, batch_size: int
) -> Predictor:
  """Opens an export for its own task, or for embeddings."""
  found = exported.load(where, batch_size=batch_size)
  if task in (None, found.task.name):
    return found
  if task == EMBEDDING.name:
    return found.embedder()
  raise UserError(
    f"{where} is an export for the task {found.task.name}, got the task {task};"
    f" export the model with --task={task}"
  )
