"""The settings of sentence-transformers in the folder of a model."""

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert_jax import settings
from bert_jax.interop import name_table, safetensors_files
from bert_jax.interop.tensor_reader import TensorReader
from bert_jax.models.activation_names import TORCH
from bert_jax.models.config import EncoderConfig
from bert_jax.models.pooling import MODES, VectorModule
from bert_jax.settings import UserError
from bert_jax.tasks import EMBEDDING
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.tasks.inputs.texts import Texts
from bert_jax.tasks.targets.class_label import ClassLabel
from bert_jax.tasks.targets.labels import torch_activation
from bert_jax.tasks.targets.multi_label import MultiLabel
from bert_jax.tasks.targets.similarity import Similarity
from bert_jax.tasks.targets.values import Values
from bert_jax.tasks.task import Task
from bert_jax.text import config_files, files

_MODULES = "modules.json"
_SETTINGS = "sentence_bert_config.json"
_CONFIG = "config_sentence_transformers.json"
_SCORING = "CrossEncoder"
_POOLING = "1_Pooling"
_PREFIX = "sentence_transformers.models."
# The keys before release 5.7, in the order of concatenation.
_MODES = {
  "pooling_mode_cls_token": "cls",
  "pooling_mode_max_tokens": "max",
  "pooling_mode_mean_tokens": "mean",
  "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
  "pooling_mode_weightedmean_tokens": "weightedmean",
  "pooling_mode_lasttoken": "lasttoken",
}
# Modules after pooling: our name, that in modules.json, and that of the
# submodule with the weights.
_KINDS = (
  ("dense", "Dense", "linear"),
  ("layer_norm", "LayerNorm", "norm"),
  ("normalize", "Normalize", ""),
)
_EXPECTED = "Transformer, Pooling, Dense, LayerNorm, Normalize, Dropout"


class _Module(NamedTuple):
  """A module: its folder, and the name of its class."""

  path: str
  kind: str


def is_scoring(folder: pathlib.Path) -> bool:
  """Whether the folder is a CrossEncoder, which scores texts and pairs.

  Raises:
    UserError: it has other modules than the Transformer.
  """
  if files.read_settings(folder, _CONFIG).get("model_type") != _SCORING:
    return False
  path = folder / _MODULES
  kinds = [module.kind for module in _modules(path)] if path.exists() else []
  if others := [kind for kind in kinds if kind != "Transformer"]:
    raise UserError(
      f"{path}: the module {others[0]} is not supported in a {_SCORING};"
      " expected only a Transformer"
    )
  return True


def scoring_keys(folder: pathlib.Path) -> dict[str, Any]:
  """The activation of a CrossEncoder, as config.json may name it."""
  name = files.read_settings(folder, _CONFIG).get("activation_fn")
  return {"sentence_transformers": {"activation_fn": name}} if name else {}


def with_inputs(
  task: Task, folder: pathlib.Path, config: EncoderConfig
) -> Task:
  """A task of texts with the folder's length, and a CrossEncoder's prompt."""
  if not isinstance(task.inputs, Texts):
    return task
  changes: dict[str, Any] = {"max_length": _max_length(folder, config)}
  if is_scoring(folder):
    changes["prompt"] = _prompts(folder)["prompt"]
  inputs = settings.replace(task.inputs, changes, str(folder))
  return dataclasses.replace(task, inputs=inputs)


def write_length(folder: pathlib.Path, task: Task) -> None:
  """Adds the length of texts to the settings of a saved tokenizer."""
  if isinstance(task.inputs, Texts) and task.inputs.max_length:
    length = {"model_max_length": task.inputs.max_length}
    content = files.read_settings(folder, config_files.CONFIG)
    _write(folder / config_files.CONFIG, content | length)


def read(folder: pathlib.Path, config: EncoderConfig) -> Task | None:
  """The task of sentence embeddings; None without `modules.json`.

  Raises:
    UserError: a file is damaged, or a module is not supported.
  """
  path = folder / _MODULES
  if not path.exists():
    return None
  pooling, include_prompt = ("mean",), True
  after: list[VectorModule] = []
  for module in _modules(path):
    where = folder / module.path / "config.json"
    if module.kind == "Pooling" and not after:
      pooling, include_prompt = _pooling(where)
    elif module.kind in _READERS:
      after.append(_READERS[module.kind](where))
    elif module.kind not in ("Transformer", "Dropout"):
      raise UserError(
        f"{path}: the module {module.kind} is not supported there; expected"
        f" {_EXPECTED} in this order"
      )
  normalize = bool(after) and after[-1].kind == "normalize"
  (name,) = EMBEDDING.targets
  target = Similarity(
    pooling,
    normalize,
    modules=tuple(after[:-1] if normalize else after),
    truncate_dim=_truncate_dim(folder),
  )
  lower_case = files.read_settings(folder, _SETTINGS).get("do_lower_case")
  inputs = Pairs(
    _max_length(folder, config),
    **_prompts(folder),
    include_prompt=include_prompt,
    lower_case=lower_case is True,
  )
  return dataclasses.replace(EMBEDDING, inputs=inputs, targets={name: target})


def tensors(folder: pathlib.Path) -> Mapping[str, TensorReader]:
  """The weights of the modules after pooling, by the prefix of their names.

  Raises:
    UserError: their files are missing or damaged.
  """
  path = folder / _MODULES
  modules = _modules(path) if path.exists() else []
  layers = {kind: layer for _, kind, layer in _KINDS}
  after = [module for module in modules if module.kind in layers]
  return {
    f"{index}_{kind}/": safetensors_files.open_folder(folder / path)
    for index, (path, kind) in enumerate(after)
    if layers[kind]
  }


def rows(task: Task) -> name_table.Rows:
  """The names of the weights of the modules after pooling."""
  target = next(iter(task.targets.values()))
  if not isinstance(target, Similarity):
    return {}
  names = {ours: (kind, layer) for ours, kind, layer in _KINDS}
  found = {}
  for index, module in enumerate(target.modules):
    kind, layer = names[module.kind]
    if layer:
      path = f"{target.HEAD}/{module.kind}_{index}"
      found[path] = f"{index}_{kind}/{layer}"
  return found


def write(
  folder: pathlib.Path, task: Task, tensors: Mapping[str, np.ndarray]
) -> None:
  """Writes the files that `read` and sentence-transformers read.

  Args:
    folder: of the model.
    task: nothing is written for others than embeddings, and scores of texts
      with a prompt.
    tensors: those of the modules after pooling, under the names in `rows`.
  """
  target = next(iter(task.targets.values()))
  if isinstance(target, Similarity):
    _write_embedding(folder, task, target, tensors)
  elif getattr(task.inputs, "prompt", "") and isinstance(
    target, ClassLabel | MultiLabel | Values
  ):
    _write_modules(folder, [_Module("", "Transformer")])
    transformer = {"transformer_task": "sequence-classification"}
    _write(folder / _SETTINGS, transformer)
    config = {"model_type": _SCORING, **_prompt_keys(task.inputs.prompt, {})}
    section = target.to_huggingface().get("sentence_transformers", {})
    _write(folder / _CONFIG, config | section)


def _write_embedding(
  folder: pathlib.Path,
  task: Task,
  target: Similarity,
  tensors: Mapping[str, np.ndarray],
) -> None:
  after = target.modules
  if target.normalize:
    after = (*after, VectorModule("normalize"))
  kinds = {ours: kind for ours, kind, _ in _KINDS}
  written = [_Module("", "Transformer"), _Module(_POOLING, "Pooling")]
  width = len(target.modes) * task.config.hidden_size
  contents = [(_POOLING, _pooling_keys(task, target))]
  for index, module in enumerate(after):
    kind = kinds[module.kind]
    place = f"{len(written)}_{kind}"
    written.append(_Module(place, kind))
    contents.append((place, _vector_module_keys(module, width)))
    width = module.features or width
    prefix = f"{index}_{kind}/"
    own = {
      name.removeprefix(prefix): tensor
      for name, tensor in tensors.items()
      if name.startswith(prefix)
    }
    if own:
      safetensors_files.write_folder(folder / place, own)
  _write_modules(folder, written)
  for place, keys in contents:
    (folder / place).mkdir(exist_ok=True)
    if keys:
      _write(folder / place / "config.json", keys)
  inputs = task.inputs
  length = inputs.max_length or task.config.max_positions
  _write(
    folder / _SETTINGS,
    {"max_seq_length": length, "do_lower_case": inputs.lower_case},
  )
  config = _prompt_keys(inputs.prompt, inputs.prompts)
  if target.truncate_dim:
    config["truncate_dim"] = target.truncate_dim
  if config:
    _write(folder / _CONFIG, config)


def _write_modules(folder: pathlib.Path, modules: Sequence[_Module]) -> None:
  keys = [
    {"idx": i, "name": str(i), "path": path, "type": _PREFIX + kind}
    for i, (path, kind) in enumerate(modules)
  ]
  _write(folder / _MODULES, keys)


def _prompt_keys(prompt: str, prompts: Mapping[str, str]) -> dict[str, Any]:
  if not (prompt or prompts):
    return {}
  names = [name for name, text in prompts.items() if text == prompt]
  default = names[0] if names else "text"
  if not prompt:
    return {"prompts": {**prompts}, "default_prompt_name": None}
  return {
    "prompts": {**prompts, default: prompt},
    "default_prompt_name": default,
  }


def _pooling_keys(task: Task, target: Similarity) -> dict[str, Any]:
  chosen = target.modes
  keys: dict[str, Any] = {
    "word_embedding_dimension": task.config.hidden_size,
    **{key: mode in chosen for key, mode in _MODES.items()},
  }
  if list(chosen) != [mode for mode in _MODES.values() if mode in chosen]:
    # Another order, which only release 5.7 has.
    keys = {
      "embedding_dimension": task.config.hidden_size,
      "pooling_mode": [*chosen],
    }
  if not task.inputs.include_prompt:
    keys["include_prompt"] = False
  return keys


def _vector_module_keys(module: VectorModule, width: int) -> dict[str, Any]:
  if module.kind == "layer_norm":
    return {"dimension": width}
  if module.kind == "normalize":
    return {}
  names = {ours: theirs for theirs, ours in TORCH.items()}
  return {
    "in_features": width,
    "out_features": module.features,
    "bias": module.bias,
    "activation_function": f"torch.nn.{names[module.activation]}",
  }


def _modules(path: pathlib.Path) -> list[_Module]:
  """The modules in their order."""
  try:
    modules = json.loads(files.decode(files.read_bytes(path), path))
    found = [
      _Module(str(m["path"]), m["type"].rsplit(".", 1)[-1]) for m in modules
    ]
  except UserError:
    raise
  except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as e:
    raise UserError(f"{path}: damaged ({e!r})") from e
  for name, _ in found:
    if pathlib.PurePath(name).name != name:
      raise UserError(f"{path}: expected a folder's name, got {name!r:.80}")
  return found


def _pooling(path: pathlib.Path) -> tuple[tuple[str, ...], bool]:
  """The pooling modes, and whether the prompt is pooled."""
  content = files.read_settings(path.parent, path.name)
  modes = content.get("pooling_mode")
  if modes is None:
    modes = [mode for key, mode in _MODES.items() if content.get(key)]
  modes = [modes] if isinstance(modes, str) else modes or ["mean"]
  if not isinstance(modes, list):
    raise UserError(f"{path}: expected a pooling mode, got {modes!r:.80}")
  for mode in modes:
    settings.choice(f"{path}: pooling_mode", str(mode), dict.fromkeys(MODES))
  return tuple(modes), content.get("include_prompt") is not False


def _dense(path: pathlib.Path) -> VectorModule:
  content = files.read_json(path)
  for key in ("module_input_name", "module_output_name"):
    name = content.get(key) or _VECTOR
    if name != _VECTOR:
      raise UserError(f"{path}: {key}: expected {_VECTOR}, got {name!r:.80}")
  section = {"activation_fn": content.get("activation_function", _TANH)}
  activation = torch_activation({"sentence_transformers": section}, str(path))
  fields = {
    "kind": "dense",
    "features": content.get("out_features"),
    "bias": content.get("bias", True),
    "activation": activation,
  }
  return settings.from_dict(VectorModule, fields, str(path))


_VECTOR, _TANH = "sentence_embedding", "torch.nn.Tanh"
_READERS = {
  "Dense": _dense,
  "LayerNorm": lambda path: VectorModule("layer_norm"),
  "Normalize": lambda path: VectorModule("normalize"),
}


def _max_length(folder: pathlib.Path, config: EncoderConfig) -> int:
  """The maximum length in tokens; of most models a tokenizer setting."""
  path, key = folder / _SETTINGS, "max_seq_length"
  length = files.read_settings(folder, _SETTINGS).get(key)
  if length is None:
    path, key = folder / config_files.CONFIG, "model_max_length"
    length = files.read_settings(folder, path.name).get(key) or 0
  # Without a limit it is 10^30, as a float in some files.
  if type(length) not in (int, float) or length < 0:
    raise UserError(f"{path}: {key}: expected a length, got {length!r:.80}")
  # 0 is the maximum of the encoder.
  return int(length) if length < config.max_positions else 0


def _prompts(folder: pathlib.Path) -> dict[str, Any]:
  """The default prompt, which every text starts with, and all by name."""
  path, content = folder / _CONFIG, files.read_settings(folder, _CONFIG)
  prompts = content.get("prompts") or {}
  name = content.get("default_prompt_name")
  if not isinstance(prompts, dict):
    raise UserError(f"{path}: prompts: expected an object, got {prompts!r:.80}")
  # These two exist in every model; null is no prompt.
  prompts = {key: text or "" for key, text in prompts.items()}
  for key, text in prompts.items():
    if not isinstance(text, str):
      raise UserError(f"{path}: prompts.{key:.40}: expected a text")
  known = {"query": "", "document": "", **prompts}
  if name is not None and name not in known:
    raise UserError(f"{path}: default_prompt_name: no prompt {name!r:.80}")
  used = {key: text for key, text in prompts.items() if text}
  return {"prompt": known.get(name, ""), "prompts": used}


def _truncate_dim(folder: pathlib.Path) -> int:
  size = files.read_settings(folder, _CONFIG).get("truncate_dim") or 0
  if type(size) is not int or size < 0:
    raise UserError(
      f"{folder / _CONFIG}: truncate_dim: expected a width, got {size!r:.80}"
    )
  return size


def _write(path: pathlib.Path, content: Any) -> None:
  path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
