"""Hugging Face folders: config.json, model.safetensors and a tokenizer."""

import dataclasses
import functools
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from bert_jax import settings, text, trees
from bert_jax.interop import (
  huggingface_config,
  name_table,
  safetensors_files,
  sentence_transformers,
)
from bert_jax.interop.families import FAMILIES, Family
from bert_jax.interop.name_table import LoadedParams
from bert_jax.interop.pretrained import Place, Pretrained, with_pooler
from bert_jax.interop.tensor_reader import TensorInfo, TensorReader
from bert_jax.models import vocabulary
from bert_jax.settings import UserError
from bert_jax.tasks import EMBEDDING, TASKS, exits
from bert_jax.tasks.task import Task
from bert_jax.text import files
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Parameters

CONFIG_FILE = "config.json"
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "vocab.json")
# Buffers that old releases saved.
_IGNORED = (r".*\.position_ids", r".*\.token_type_ids")


def open_folder(
  folder: pathlib.Path, ignore_unexpected: bool = False
) -> Pretrained:
  """Opens a folder without reading its weights.

  For `ignore_unexpected` see `name_table.read_params`.

  Raises:
    UserError: a file is damaged, or the model is not supported.
  """
  path = folder / CONFIG_FILE
  config = files.read_json(path)
  family, encoder = huggingface_config.read_config(config, str(path))
  tensors = _Renamed(safetensors_files.open_folder(folder))
  if encoder.distinct_layers > len(tensors.shapes):
    raise UserError(
      f"{path}: {encoder.distinct_layers} layers, but the weights are"
      f" {len(tensors.shapes)} tensors"
    )
  has_prefix = any(name.startswith(family.prefix) for name in tensors.shapes)
  if not _is_tied(family, config, tensors, has_prefix):
    encoder = dataclasses.replace(encoder, tied_decoder=False)
  is_scoring = sentence_transformers.is_scoring(folder)
  if is_scoring:
    config = {
      **config,
      "architectures": [f"{family.class_name}ForSequenceClassification"],
      **sentence_transformers.scoring_keys(folder),
    }
  modules = sentence_transformers.tensors(folder)
  tensors = Joined({"": tensors, **modules})

  def find(wanted: str | None = None) -> Task | None:
    found = huggingface_config.read_task(
      family, config, tensors.shapes, str(path), wanted
    )
    if found is None:
      return None
    return sentence_transformers.with_inputs(found, folder, encoder)

  embedding = None
  if not is_scoring:
    embedding = sentence_transformers.read(folder, encoder)
  task = embedding or find() or EMBEDDING  # A base model.

  def read(task: Task, wanted: Parameters, place: Place | None) -> LoadedParams:
    names = table(family, task, has_prefix)
    unused = [re.escape(prefix) + ".*" for prefix in modules]
    names = names._replace(ignored=(*names.ignored, *unused))
    is_there = functools.partial(names.is_in, tensors)
    wanted = with_pooler(wanted, encoder, is_there)
    return name_table.read_params(
      tensors, wanted, names, str(folder), place, ignore_unexpected
    )

  return Pretrained(
    where=str(folder),
    config=encoder,
    task=task,
    tokenizer=_tokenizer(folder),
    read=read,
    find=find,
  )


def save(task: Task, params: Parameters, folder: pathlib.Path) -> None:
  """Writes a folder that Transformers opens, with the same outputs.

  A model for sentence embeddings opens in sentence-transformers too. The folder
  is created if necessary; config.json is written last.

  Raises:
    UserError: Transformers has no such model.
  """
  task, params = exits.only_last(task, params, "Transformers")
  keys = config_keys(task, "the model cannot be saved for Transformers")
  tensors, of_modules = tensors_of(task, params)
  safetensors_files.write_folder(folder, tensors)
  if task.tokenizer is not None:
    task.tokenizer.save(folder)
    sentence_transformers.write_length(folder, task)
  sentence_transformers.write(folder, task, of_modules)
  write_json(folder / CONFIG_FILE, keys)


def config_keys(task: Task, where: str) -> dict[str, Any]:
  """The keys of config.json for a task on its encoder.

  Raises:
    UserError: Transformers has no such model; `where` begins the message.
  """
  config = task.config
  family = settings.choice(f"{where}: family", config.family, FAMILIES)
  if not huggingface_config.has_heads(family, task):
    known = [
      name
      for name, other in TASKS.items()
      if huggingface_config.has_heads(family, other)
    ]
    raise UserError(
      f"{where}: {config.family} has no head for the task {task.name}; name a"
      f" task that it has a head for: {', '.join(known)}"
    )
  keys = huggingface_config.write_task(task)
  return keys | huggingface_config.write_config(
    config, where, keys["architectures"]
  )


def tensors_of(
  task: Task, params: Parameters
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
  """The tensors of some of a task's parameters as Transformers needs them.

  The second are those of the modules of sentence-transformers.
  """
  for name, target in task.targets.items():
    head = task.head_names[name]
    if head in params:
      params = {**params, head: target.huggingface_params(params[head])}
  tensors = named_tensors(task, params)
  of_modules = {name: x for name, x in tensors.items() if "/" in name}
  return {n: x for n, x in tensors.items() if "/" not in n}, of_modules


def write_json(path: pathlib.Path, keys: Mapping[str, Any]) -> None:
  """Writes a file of settings, indented."""
  content = json.dumps(keys, indent=2, ensure_ascii=False) + "\n"
  path.write_text(content, encoding="utf-8")


def named_tensors(task: Task, params: Parameters) -> dict[str, np.ndarray]:
  """Parameters, or their gradients, under the names of Transformers.

  Rows that only pad the vocabulary are left out.
  """
  is_base = task.architecture == huggingface_config.BASE_MODEL
  names = table(FAMILIES[task.config.family], task, has_prefix=not is_base)
  rows = task.config.vocab_size
  cut = trees.map_with_path(
    lambda path, leaf: vocabulary.with_rows(path, leaf, rows), params
  )
  return name_table.named_tensors(cut, names)


@dataclasses.dataclass(frozen=True)
class _Renamed:
  """A checkpoint with `gamma` and `beta` of norms renamed as in PyTorch."""

  tensors: TensorReader

  @functools.cached_property
  def _names(self) -> Mapping[str, str]:
    return {
      re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name)): name
      for name in self.tensors.shapes
    }

  @functools.cached_property
  def shapes(self) -> Mapping[str, TensorInfo]:
    return {new: self.tensors.shapes[old] for new, old in self._names.items()}

  def read(self, name: str) -> np.ndarray:
    return self.tensors.read(self._names[name])


@dataclasses.dataclass(frozen=True)
class Joined:
  """Several checkpoints as one, each with a prefix of its names."""

  parts: Mapping[str, TensorReader]

  @functools.cached_property
  def _places(self) -> Mapping[str, tuple[TensorReader, str]]:
    return {
      prefix + name: (part, name)
      for prefix, part in self.parts.items()
      for name in part.shapes
    }

  @functools.cached_property
  def shapes(self) -> Mapping[str, TensorInfo]:
    """See `TensorReader`."""
    places = self._places.items()
    return {name: part.shapes[own] for name, (part, own) in places}

  def read(self, name: str) -> np.ndarray:
    """See `TensorReader`."""
    part, own = self._places[name]
    return part.read(own)


def _is_tied(
  family: Family,
  config: Mapping[str, Any],
  tensors: TensorReader,
  has_prefix: bool,
) -> bool:
  """Whether the decoder is the word embedding.

  As in Transformers 5, it is not where the weights hold both and they differ,
  whatever the config says.
  """
  copy, original = _decoder(family)
  if not has_prefix:
    original = original.removeprefix(family.prefix)
  if copy not in tensors.shapes:
    return True
  if config.get("tie_word_embeddings") is False:
    return False
  return original not in tensors.shapes or np.array_equal(
    tensors.read(copy), tensors.read(original)
  )


def _decoder(family: Family) -> tuple[str, str]:
  """The tensors of the decoder and of the word embedding it may be tied to."""
  word = family.prefix + f"{family.encoder['encoder/embeddings/word']}.weight"
  return next(item for item in family.copies.items() if item[1] == word)


def table(family: Family, task: Task, has_prefix: bool) -> name_table.Table:
  """The names of a task's parameters in Transformers.

  Args:
    family: of the encoder.
    task: bound.
    has_prefix: whether the tensors are those of a class with a head.
  """
  prefix = family.prefix if has_prefix else ""

  def plain(name: str) -> str:
    return prefix + name.removeprefix(family.prefix)

  def adapt(rows: name_table.Rows) -> name_table.Rows:
    """Rows of heads, some of which are the base model's."""
    return {
      ours: plain(row) if row.startswith(family.prefix) else row
      for ours, row in rows.items()
    }

  encoder = {
    ours: row._replace(name=prefix + row.name)
    if isinstance(row, name_table.Tensor)
    else prefix + row
    for ours, row in family.encoder.items()
  }
  # For a task that the family has no class for, its other heads may serve.
  has_heads = huggingface_config.has_heads(family, task)
  used = family.heads[task.architecture if has_heads else "ForMaskedLM"]
  copies, decoder = dict(family.copies), {}
  if not task.config.tied_decoder:
    name, _ = _decoder(family)
    del copies[name]
    decoder = {"masked_lm/decoder": name_table.Tensor(name)}
  return name_table.Table(
    rows=encoder | adapt(used) | decoder | sentence_transformers.rows(task),
    leaves=name_table.torch_leaves,
    copies={
      copy: plain(name) if name.startswith(family.prefix) else name
      for copy, name in copies.items()
    },
    ignored=(*_IGNORED, *family.ignored),
    others=[adapt(rows) for rows in family.heads.values()],
    group=task.config.group_layers,
  )


def _tokenizer(folder: pathlib.Path) -> Tokenizer | None:
  if not any((folder / name).exists() for name in _TOKENIZER_FILES) and not any(
    folder.glob("*.model")
  ):
    return None
  return text.load(folder)
