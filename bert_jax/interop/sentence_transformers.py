"""The settings of sentence-transformers in the folder of a model."""

import dataclasses
import json
import pathlib
from typing import Any

from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import EMBEDDING
from bert_jax.tasks.inputs.pairs import Pairs
from bert_jax.tasks.targets.similarity import POOLING, Similarity
from bert_jax.tasks.task import Task
from bert_jax.text import files

_MODULES = "modules.json"
_SETTINGS = "sentence_bert_config.json"
_POOLING = "1_Pooling"
_PREFIX = "sentence_transformers.models."
# The keys before release 6, in the order of concatenation.
_MODES = {
  "pooling_mode_cls_token": "cls",
  "pooling_mode_max_tokens": "max",
  "pooling_mode_mean_tokens": "mean",
  "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
  "pooling_mode_weightedmean_tokens": "weightedmean",
  "pooling_mode_lasttoken": "lasttoken",
}
_PROMPTS = "config_sentence_transformers.json"


def read(folder: pathlib.Path, config: EncoderConfig) -> Task | None:
  """The task of sentence embeddings; None without `modules.json`.

  Raises:
    UserError: a file is damaged, or a module is not supported.
  """
  path = folder / _MODULES
  if not path.exists():
    return None
  normalize, pooling = False, ("mean",)
  for name, kind in _modules(path):
    if kind == "Pooling":
      pooling = _pooling(folder, name)
    elif kind == "Normalize":
      normalize = True
    elif kind != "Transformer":
      raise UserError(
        f"{path}: the module {kind} is not supported; expected Transformer,"
        " Pooling and Normalize"
      )
  (name,) = EMBEDDING.targets
  return dataclasses.replace(
    EMBEDDING,
    inputs=Pairs(_max_length(folder, config), _prompt(folder)),
    targets={name: Similarity(pooling, normalize)},
  )


def write(folder: pathlib.Path, task: Task) -> None:
  """Writes the files that `read` and sentence-transformers read.

  Writes nothing for tasks other than sentence embeddings.
  """
  target = next(iter(task.targets.values()))
  if not isinstance(target, Similarity):
    return
  modules = [("", "Transformer"), (_POOLING, "Pooling")]
  if target.normalize:
    modules.append(("2_Normalize", "Normalize"))
  _write(
    folder / _MODULES,
    [
      {"idx": i, "name": str(i), "path": path, "type": _PREFIX + kind}
      for i, (path, kind) in enumerate(modules)
    ],
  )
  length = task.inputs.max_length or task.config.max_positions
  _write(folder / _SETTINGS, {"max_seq_length": length, "do_lower_case": False})
  if prompt := task.inputs.prompt:
    prompts = {"prompts": {"text": prompt}, "default_prompt_name": "text"}
    _write(folder / _PROMPTS, prompts)
  chosen = target.pooling or ("mean",)
  modes = {key: mode in chosen for key, mode in _MODES.items()}
  for path, _ in modules:
    (folder / path).mkdir(exist_ok=True)
  _write(
    folder / _POOLING / "config.json",
    {"word_embedding_dimension": task.config.hidden_size, **modes},
  )


def _modules(path: pathlib.Path) -> list[tuple[str, str]]:
  """Folder and kind of each module."""
  try:
    modules = json.loads(files.decode(files.read_bytes(path), path))
    found = [(str(m["path"]), m["type"].rsplit(".", 1)[-1]) for m in modules]
  except UserError:
    raise
  except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as e:
    raise UserError(f"{path}: damaged ({e!r})") from e
  for name, _ in found:
    if pathlib.PurePath(name).name != name:
      raise UserError(f"{path}: expected a folder's name, got {name!r:.80}")
  return found


def _pooling(folder: pathlib.Path, name: str) -> tuple[str, ...]:
  path = folder / name / "config.json"
  content = files.read_json(path)
  modes = content.get("pooling_mode")
  if modes is None:
    modes = [mode for key, mode in _MODES.items() if content.get(key)]
  modes = [modes] if isinstance(modes, str) else modes
  if not isinstance(modes, list) or not modes:
    raise UserError(f"{path}: expected a pooling mode, got {modes!r:.80}")
  if others := [mode for mode in modes if mode not in POOLING]:
    raise UserError(
      f"{path}: the pooling {others[0]!r:.80} is not supported, only"
      f" {', '.join(POOLING)}"
    )
  if content.get("include_prompt") is False:
    raise UserError(f"{path}: pooling without the prompt is not supported")
  return tuple(mode for mode in POOLING if mode in modes)


def _max_length(folder: pathlib.Path, config: EncoderConfig) -> int:
  """The maximum length in tokens; since release 6 a tokenizer setting."""
  path, key = folder / _SETTINGS, "max_seq_length"
  length = files.read_settings(folder, _SETTINGS).get(key)
  if length is None:
    path, key = folder / "tokenizer_config.json", "model_max_length"
    length = files.read_settings(folder, path.name).get(key) or 0
  # Without a limit it is 10^30, as a float in some files.
  if type(length) not in (int, float) or length < 0:
    raise UserError(f"{path}: {key}: expected a length, got {length!r:.80}")
  # 0 is the maximum of the encoder.
  return int(length) if length < config.max_positions else 0


def _prompt(folder: pathlib.Path) -> str:
  """The default prompt, which every text starts with."""
  settings = files.read_settings(folder, _PROMPTS)
  name = settings.get("default_prompt_name")
  if name is None:
    return ""
  prompts = settings.get("prompts")
  prompt = prompts.get(name) if isinstance(prompts, dict) else None
  if not isinstance(prompt, str):
    raise UserError(
      f"{folder / _PROMPTS}: default_prompt_name: no prompt {name!r:.80}"
    )
  return prompt


def _write(path: pathlib.Path, content: Any) -> None:
  path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
