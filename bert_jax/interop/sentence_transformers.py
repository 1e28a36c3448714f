"""The settings that sentence-transformers keeps beside a model."""

import json
import pathlib
from typing import Any

from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import embedding
from bert_jax.text import files

_MODULES = "modules.json"
_SETTINGS = "sentence_bert_config.json"
_POOLING = "1_Pooling"
_PREFIX = "sentence_transformers.models."
_MODES = {
  "pooling_mode_cls_token": "cls",
  "pooling_mode_max_tokens": "max",
  "pooling_mode_mean_tokens": "mean",
}
_OTHER_MODES = (
  "pooling_mode_mean_sqrt_len_tokens",
  "pooling_mode_weightedmean_tokens",
  "pooling_mode_lasttoken",
)


def read(folder: pathlib.Path, config: EncoderConfig) -> embedding.Head | None:
  """How sentences become vectors; None where `modules.json` is not there.

  Raises:
    UserError: a file is damaged, or a module is none of Transformer, Pooling
      and Normalize.
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
  settings = files.read_settings(folder, _SETTINGS)
  length = settings.get("max_seq_length") or 0
  if type(length) is not int or length < 0:
    raise UserError(
      f"{folder / _SETTINGS}: max_seq_length: expected a length, got {length!r}"
    )
  if length >= config.max_positions:
    length = 0  # The encoder's own, whatever that is.
  return embedding.Head(pooling=pooling, normalize=normalize, max_length=length)


def write(
  folder: pathlib.Path, head: embedding.Head, config: EncoderConfig
) -> None:
  """Writes what `read` reads, and sentence-transformers too."""
  modules = [("", "Transformer"), (_POOLING, "Pooling")]
  if head.normalize:
    modules.append(("2_Normalize", "Normalize"))
  _write(
    folder / _MODULES,
    [
      {"idx": i, "name": str(i), "path": path, "type": _PREFIX + kind}
      for i, (path, kind) in enumerate(modules)
    ],
  )
  length = head.max_length or config.max_positions
  _write(folder / _SETTINGS, {"max_seq_length": length, "do_lower_case": False})
  modes = {key: mode in head.pooling for key, mode in _MODES.items()}
  for path, _ in modules:
    (folder / path).mkdir(exist_ok=True)
  _write(
    folder / _POOLING / "config.json",
    {"word_embedding_dimension": config.hidden_size, **modes},
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
  if others := [key for key in _OTHER_MODES if content.get(key)]:
    raise UserError(
      f"{path}: {others[0]} is not supported, only {', '.join(_MODES)}"
    )
  # In the order in which sentence-transformers joins them.
  modes = tuple(mode for key, mode in _MODES.items() if content.get(key))
  if not modes:
    raise UserError(f"{path}: expected one of {', '.join(_MODES)} to be true")
  return modes


def _write(path: pathlib.Path, content: Any) -> None:
  path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
