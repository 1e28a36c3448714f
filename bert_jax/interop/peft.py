"""Folders of peft: low-rank adapters, and the heads trained with them.

Of `adapter_config.json` and `adapter_model.safetensors`. We add the model's
`config.json`, which says what the labels are; peft has no place for that.
"""

import dataclasses
import math
import pathlib
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from bert_jax import trees
from bert_jax.interop import (
  huggingface,
  huggingface_config,
  name_table,
  safetensors_files,
  sentence_transformers,
)
from bert_jax.interop.families import FAMILIES
from bert_jax.interop.name_table import LoadedParams, Tensor
from bert_jax.interop.pretrained import Place, Pretrained, shapes_of
from bert_jax.interop.tensor_reader import TensorInfo, TensorReader
from bert_jax.models import low_rank
from bert_jax.models.low_rank import LowRank
from bert_jax.settings import UserError
from bert_jax.tasks import exits
from bert_jax.tasks.targets.similarity import Similarity
from bert_jax.tasks.task import Task
from bert_jax.text import files
from bert_jax.types import Parameters

CONFIG_FILE = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
# Of the module that peft wraps.
_PREFIX = "base_model.model."
# The types of tasks, and the ends of the names of their classes.
_TASKS = {
  "SEQ_CLS": "ForSequenceClassification",
  "TOKEN_CLS": "ForTokenClassification",
  "QUESTION_ANS": "ForQuestionAnswering",
  "FEATURE_EXTRACTION": "Model",
}
# Settings that are read, or change nothing in the outputs; others are of other
# ways to adapt.
_KNOWN = {
  *("alpha_pattern", "auto_mapping", "base_model_name_or_path", "bias"),
  *("ensure_weight_tying", "eva_config", "exclude_modules", "fan_in_fan_out"),
  *("inference_mode", "init_lora_weights", "layers_pattern"),
  *("layers_to_transform", "lora_alpha", "lora_dropout", "megatron_config"),
  *("megatron_core", "modules_to_save", "peft_type", "peft_version"),
  *("qalora_group_size", "r", "rank_pattern", "revision", "runtime_config"),
  *("target_modules", "task_type", "use_rslora"),
}
# Others change the base model before they train.
_INITIALIZATIONS = (True, False, None, "gaussian", "eva", "orthogonal")


@dataclasses.dataclass(frozen=True, eq=False)
class Adapter:
  """What was trained in place of a model's encoder.

  Attributes:
    where: its folder or address, for messages.
    base: the model that it was trained on, as `config.init` names it.
    task: what it was trained for, bound to the encoder of that model.
    products: by the paths of kernels, what is added to them.
    params: the parameters that it has itself, such as those of heads.
  """

  where: str
  base: str
  task: Task
  products: Mapping[str, LowRank]
  params: Parameters


def is_adapter(folder: pathlib.Path) -> bool:
  """Whether a folder is one of peft."""
  return (folder / CONFIG_FILE).is_file()


def base_of(folder: pathlib.Path) -> str:
  """The model that an adapter was trained on, as `load` takes it.

  Raises:
    UserError: the folder does not say.
  """
  path = folder / CONFIG_FILE
  config = files.read_json(path)
  name, revision = config.get("base_model_name_or_path"), config.get("revision")
  if not isinstance(name, str) or not name:
    raise UserError(
      f"{path}: no base_model_name_or_path; load the model that the adapter is"
      " for, and call its `with_adapter`"
    )
  if pathlib.Path(name).resolve() == folder.resolve():
    raise UserError(f"{path}: base_model_name_or_path: this folder itself")
  is_address = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII)
  if pathlib.Path(name).exists() or not is_address:
    return name
  return f"hf://{name}" + (f"@{revision}" if revision else "")


def read(folder: pathlib.Path, base: Task) -> Adapter:
  """Reads an adapter.

  Args:
    folder: of peft.
    base: the bound task of the model that it is for, which is the adapter's
      task too where that has no heads.

  Raises:
    UserError: a file is damaged, the adapter is of a kind that is not
      supported, or it is for another encoder.
  """
  config, settings = base.config, files.read_json(folder / CONFIG_FILE)
  _check_settings(settings, folder / CONFIG_FILE)
  names = sorted(path.name for path in folder.iterdir())
  if WEIGHTS not in names:
    raise UserError(
      f"{folder}: expected {WEIGHTS}; found {', '.join(names[:8])}; save it"
      " again with a recent version of peft"
    )
  tensors = _Unwrapped(
    huggingface.Joined(
      {
        "": safetensors_files.open_file(folder / WEIGHTS),
        **sentence_transformers.tensors(folder),
      }
    )
  )
  family = FAMILIES[config.family]
  task = _task(folder, settings, base, tensors)
  task = task.bind(config, base.tokenizer)
  has_prefix = any(name.startswith(family.prefix) for name in tensors.shapes)
  table = huggingface.table(family, task, has_prefix)
  shapes = trees.flatten(shapes_of(task))
  products, used = {}, set()
  for path, shape in shapes.items():
    tensor = table.locate(path)
    module = tensor.name.removesuffix(".weight") if tensor else ""
    parts = f"{module}.lora_A.weight", f"{module}.lora_B.weight"
    if path.endswith("/kernel") and {*parts} <= tensors.shapes.keys():
      a, b = map(tensors.read, parts)
      products[path] = _product(a, b, tensor, _scale(settings, module, a))
      check_shape(str(folder), path, products[path], shape)
      used |= {*parts}
  others = {
    name: info for name, info in tensors.shapes.items() if "lora_" not in name
  }
  if unknown := sorted(tensors.shapes.keys() - used - others.keys()):
    raise UserError(
      f"{folder}: no dense layer of this {config.family} model is adapted by"
      f" {', '.join(unknown[:4])}"
    )
  for copy, original in table.copies.items():
    if copy in others and original not in others and "bias" not in copy:
      raise UserError(
        f"{folder}: {copy} was trained apart from the word embedding; that is"
        " not supported"
      )
  wanted = {
    path: shape
    for path, shape in shapes.items()
    if (tensor := table.locate(path)) and tensor.name in others
  }
  own, _ = name_table.read_params(
    dataclasses.replace(tensors, only=frozenset(others)),
    trees.unflatten(wanted),
    table,
    str(folder),
    lambda _, array: np.array(array),
  )
  name = str(settings.get("base_model_name_or_path") or "")
  return Adapter(str(folder), name and base_of(folder), task, products, own)


def check_shape(where: str, path: str, product: LowRank, kernel: Any) -> None:
  """Refuses a product for a kernel of another shape.

  Raises:
    UserError: the message names both.
  """
  fits = product.a.shape[1] == product.b.shape[0]
  if not fits or product.shape != tuple(kernel.shape):
    raise UserError(
      f"{where}: an adapter for another model: {path} is"
      f" {list(kernel.shape)}, and its product {list(product.a.shape)} x"
      f" {list(product.b.shape)}"
    )


def open_folder(
  folder: pathlib.Path, open_base: Callable[[str], Pretrained]
) -> Pretrained:
  """Opens the model that an adapter makes of its base, merged.

  Args:
    folder: of peft.
    open_base: opens the base model.

  Raises:
    UserError: as `read`, or the base cannot be opened.
  """
  named = base_of(folder)
  try:
    base = open_base(named)
  except UserError as error:
    raise UserError(f"{folder}: its base model {error}") from error
  return merged(base, read(folder, base.make_task()))


def merged(base: Pretrained, adapter: Adapter) -> Pretrained:
  """A model that is not read yet, with an adapter merged into it."""
  own = trees.flatten(adapter.params)

  def load(task: Task, wanted: Parameters, place: Place | None) -> LoadedParams:
    flat = trees.flatten(wanted)
    rest = {path: x for path, x in flat.items() if path not in own}
    found = base.read(task, trees.unflatten(rest), None)
    params = trees.flatten(found.params)
    params |= {path: own[path] for path in flat if path in own}
    params = low_rank.merged(
      low_rank.attach(
        trees.unflatten(params),
        {path: x for path, x in adapter.products.items() if path in flat},
      )
    )
    put = place or (lambda _, array: jax.device_put(array))
    params = trees.map_with_path(
      lambda path, x: put(path, np.asarray(x)), params
    )
    return LoadedParams(params, tuple(sorted({*wanted} - {*params})))

  return Pretrained(
    where=adapter.where,
    config=base.config,
    task=adapter.task.bind(None, None),
    tokenizer=base.tokenizer,
    read=load,
    find=base.find,
  )


def save(adapter: Adapter, folder: pathlib.Path) -> None:
  """Writes a folder that peft and `read` open; the config is written last.

  For sentence embeddings it has the vocabulary too, and sentence-transformers
  opens it.

  Raises:
    UserError: Transformers has no such model, or peft no such adapter.
  """
  where = "the adapter cannot be saved for peft"
  task, own = exits.only_last(adapter.task, adapter.params, "peft")
  keys = huggingface.config_keys(task, where)
  if trained := sorted(
    path for path in trees.flatten(own) if path.startswith("encoder/")
  ):
    raise UserError(f"{where}: the encoder was trained too: {trained[0]}")
  if "masked_lm" in own:
    # peft wants all of a module, and so the word embedding too.
    raise UserError(
      f"{where}: a masked-LM head, whose decoder is the word embedding; save it"
      " merged, for Transformers"
    )
  family = FAMILIES[task.config.family]
  is_base = task.architecture == huggingface_config.BASE_MODEL
  table = huggingface.table(family, task, has_prefix=not is_base)
  tensors, of_modules = huggingface.tensors_of(task, own)
  heads = {
    re.match(rf"({re.escape(family.prefix)})?[^.]+", name)[0]
    for name in tensors
  }
  modules: dict[str, dict[int, tuple[Tensor, LowRank]]] = {}
  for path, product in adapter.products.items():
    tensor = table.locate(path)
    module = tensor.name.removesuffix(".weight")
    modules.setdefault(module, {})[tensor.part] = tensor, product
  ranks, alphas = {}, {}
  for module, parts in modules.items():
    a, b, scale = _joined(parts)
    tensors[f"{module}.lora_A.weight"] = a
    tensors[f"{module}.lora_B.weight"] = b
    ranks[module] = len(a)
    alpha = scale * len(a)
    alphas[module] = int(alpha) if alpha == int(alpha) else alpha
  rank, alpha = _most(ranks), _most(alphas)
  name, _, revision = adapter.base.removeprefix("hf://").partition("@")
  is_hub = adapter.base.startswith("hf://")
  types = {end: kind for kind, end in _TASKS.items()}
  safetensors_files.write_folder(
    folder, {_PREFIX + key: x for key, x in tensors.items()}, WEIGHTS
  )
  target = next(iter(task.targets.values()))
  if isinstance(target, Similarity) and task.tokenizer is not None:
    task.tokenizer.save(folder)
  sentence_transformers.write_length(folder, task)
  sentence_transformers.write(folder, task, of_modules)
  huggingface.write_json(folder / huggingface.CONFIG_FILE, keys)
  settings = {
    "peft_type": "LORA",
    "task_type": types.get(task.architecture),
    "base_model_name_or_path": name if is_hub else adapter.base,
    "revision": revision if is_hub and revision else None,
    "inference_mode": True,
    "r": rank,
    "lora_alpha": alpha,
    "lora_dropout": 0.0,
    "bias": "none",
    "fan_in_fan_out": False,
    "init_lora_weights": True,
    "target_modules": sorted(modules),
    "modules_to_save": sorted(heads) or None,
    "rank_pattern": {
      re.escape(module): x for module, x in ranks.items() if x != rank
    },
    "alpha_pattern": {
      re.escape(module): x for module, x in alphas.items() if x != alpha
    },
  }
  huggingface.write_json(folder / CONFIG_FILE, settings)


@dataclasses.dataclass(frozen=True)
class _Unwrapped:
  """The tensors of an adapter without the names of what peft wraps.

  Attributes:
    tensors: of its files.
    only: the names to show; None for all.
  """

  tensors: TensorReader
  only: frozenset[str] | None = None

  @property
  def _names(self) -> Mapping[str, str]:
    found = {
      # `base_layer` has the biases that are trained with an adapter.
      name.removeprefix(_PREFIX).replace(".base_layer.", "."): name
      for name in self.tensors.shapes
    }
    if self.only is None:
      return found
    return {name: old for name, old in found.items() if name in self.only}

  @property
  def shapes(self) -> Mapping[str, TensorInfo]:
    return {new: self.tensors.shapes[old] for new, old in self._names.items()}

  def read(self, name: str) -> np.ndarray:
    return self.tensors.read(self._names[name])


def _check_settings(settings: Mapping[str, Any], path: pathlib.Path) -> None:
  kind = settings.get("peft_type")
  if kind != "LORA":
    raise UserError(f"{path}: peft_type: expected LORA, got {kind!r:.80}")
  for name, value in settings.items():
    if value and name not in _KNOWN:
      raise UserError(f"{path}: {name}: {value!r:.80} is not supported")
  start = settings.get("init_lora_weights", True)
  if start not in _INITIALIZATIONS:
    raise UserError(
      f"{path}: init_lora_weights: {start!r:.80} changes the base model; peft's"
      " `path_initial_model_for_weight_conversion` makes plain LoRA of it"
    )
  numbers = settings.get("lora_alpha"), *_pattern(settings).values()
  if not all(type(x) in (int, float) and math.isfinite(x) for x in numbers):
    raise UserError(
      f"{path}: lora_alpha: expected numbers, got {numbers!r:.80}"
    )


def _pattern(settings: Mapping[str, Any]) -> Mapping[str, Any]:
  found = settings.get("alpha_pattern") or {}
  return found if isinstance(found, dict) else {"": found}


def _scale(settings: Mapping[str, Any], module: str, a: np.ndarray) -> float:
  """The factor of a module's product."""
  alpha, rank = settings["lora_alpha"], len(a)
  for pattern, value in _pattern(settings).items():
    # Keys may be regular expressions, as in peft.
    if re.fullmatch(rf"(.*\.)?({pattern})", module):
      alpha = value
      break
  return alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _product(
  a: np.ndarray, b: np.ndarray, tensor: Tensor, scale: float
) -> LowRank:
  """Of one of the parameters that a tensor concatenates."""
  if tensor.parts > 1 and len(b) % tensor.parts == 0:
    b = np.split(b, tensor.parts)[tensor.part]
  a, b = (np.ascontiguousarray(x.T, np.float32) for x in (a, b))
  return LowRank(a, b, scale)


def _joined(
  parts: Mapping[int, tuple[Tensor, LowRank]],
) -> tuple[np.ndarray, np.ndarray, float]:
  """The A [rank, width] and B [features, rank] of a tensor, and the scale."""
  tensor, first = next(iter(parts.values()))
  products = {part: product for part, (_, product) in parts.items()}
  if tensor.parts == 1:
    return first.a.T, first.b.T, first.scale
  shared = len(parts) == tensor.parts and all(
    x.scale == first.scale and np.array_equal(x.a, first.a)
    for x in products.values()
  )
  if shared:
    b = np.concatenate([products[part].b.T for part in range(tensor.parts)])
    return first.a.T, b, first.scale
  # Each has its own rows of A and columns of B.
  features = first.b.shape[1]
  ranks = [x.a.shape[1] for x in products.values()]
  b = np.zeros((tensor.parts * features, sum(ranks)), np.float32)
  starts = np.cumsum([0, *ranks])
  for start, rank, (part, x) in zip(starts, ranks, products.items()):
    rows = slice(part * features, (part + 1) * features)
    b[rows, start : start + rank] = x.b.T * np.float32(x.scale / first.scale)
  return np.concatenate([x.a.T for x in products.values()]), b, first.scale


def _most(values: Mapping[str, Any]) -> Any:
  """The most frequent of the values."""
  found = list(values.values())
  return max(found, key=found.count)


def _task(
  folder: pathlib.Path,
  settings: Mapping[str, Any],
  base: Task,
  tensors: TensorReader,
) -> Task:
  """The task of an adapter's heads, not bound; else that of its base."""
  is_scoring = sentence_transformers.is_scoring(folder)
  embedding = None
  if not is_scoring:
    embedding = sentence_transformers.read(folder, base.config)
  if embedding is not None:
    return embedding
  family, path = FAMILIES[base.config.family], folder / huggingface.CONFIG_FILE
  if path.is_file():
    keys = files.read_json(path)
  else:
    mapping = settings.get("auto_mapping")
    name = (
      mapping.get("base_model_class") if isinstance(mapping, dict) else None
    )
    end = _TASKS.get(str(settings.get("task_type")), "Model")
    keys = {"architectures": [name or family.class_name + end]}
  if is_scoring:
    keys |= sentence_transformers.scoring_keys(folder)
  found = huggingface_config.read_task(family, keys, tensors.shapes, str(path))
  if found is None or (
    not path.is_file()
    and found.name == base.name
    and found.num_outputs == base.num_outputs
  ):
    return base  # Which may have names for the labels.
  return sentence_transformers.with_inputs(found, folder, base.config)
