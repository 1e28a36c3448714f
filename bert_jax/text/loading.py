"""From files to the tokenizer that they hold."""

import json
import pathlib
import re
from typing import Any

from bert_jax.settings import UserError
from bert_jax.text.sentencepiece import SentencePiece
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.text.wordpiece import PREFIX, WordPiece
from bert_jax.text.words import WordRules

_UPPER_CASE = re.compile(r"(##)?[A-Z]")


def load(path: pathlib.Path | str) -> Tokenizer:
  """Loads a tokenizer.

  Args:
    path: a folder with a `tokenizer.json` (WordPiece) or a `vocab.txt`, as
      `WordPiece.save`, Hugging Face and Google's checkpoints have them, or
      with one SentencePiece `.model`; or one of these files itself. A
      `tokenizer_config.json` beside it says whether case is dropped; without
      one, case is dropped unless the vocabulary has upper-case pieces.

  Raises:
    UserError: there is no such file, or it is damaged or of another kind;
      the message names the file.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    path = _find(path)
  elif not path.is_file():
    raise UserError(f"{path}: no such file or folder")
  if path.suffix == ".model":
    return SentencePiece(_read_bytes(path), str(path))
  if path.suffix == ".json":
    return _load_json(path)
  return from_vocabulary_file(path)


def from_vocabulary_file(
  path: pathlib.Path | str, rules: WordRules | None = None
) -> WordPiece:
  """The tokenizer of a `vocab.txt`: one token a line, its id the line.

  Args:
    path: the file.
    rules: how text is split into words; None: as `load` finds them.

  Raises:
    UserError: the file is missing, no UTF-8, empty, has a line twice or
      lacks a special token.
  """
  path = pathlib.Path(path)
  # Not splitlines: a line separator of Unicode's can be a token.
  lines = _read(path).replace("\r\n", "\n").split("\n")
  if not lines[-1]:
    lines.pop()
  return WordPiece(lines, rules or _rules(path, lines, {}), str(path))


def _find(folder: pathlib.Path) -> pathlib.Path:
  names = ("tokenizer.json", "vocab.txt")
  found = [folder / name for name in names if (folder / name).is_file()]
  models = sorted(folder.glob("*.model"))
  if found and not (models and _model_type(found[0]) != "WordPiece"):
    return found[0]
  if len(models) == 1:
    return models[0]
  raise UserError(
    f"{folder}: expected tokenizer.json, vocab.txt or one .model file, found"
    f" {', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'nothing'}"
  )


def _model_type(path: pathlib.Path) -> str:
  if path.suffix != ".json":
    return "WordPiece"
  model = _read_json(path).get("model")
  return str(model.get("type")) if isinstance(model, dict) else "None"


def _load_json(path: pathlib.Path) -> WordPiece:
  """A `tokenizer.json`; only its vocabulary and its word rules are used.

  So that one text has one encoding whoever wrote the file.
  """
  content = _read_json(path)
  if (kind := _model_type(path)) != "WordPiece":
    raise UserError(f"{path}: expected a WordPiece model, got {kind}")
  model = content["model"]
  if (prefix := model.get("continuing_subword_prefix", PREFIX)) != PREFIX:
    raise UserError(f"{path}: expected pieces with {PREFIX!r}, got {prefix!r}")
  try:
    ids = dict(model["vocab"])
    for added in content.get("added_tokens") or ():
      ids.setdefault(added["content"], added["id"])
    tokens = sorted(ids, key=lambda token: ids[token])
    consecutive = [ids[token] for token in tokens] == list(range(len(ids)))
  except (KeyError, TypeError, ValueError) as error:
    raise UserError(f"{path}: damaged vocabulary ({error!r})") from error
  if not consecutive:
    raise UserError(f"{path}: ids are not 0 to {len(ids) - 1}, each once")
  rules = _rules(path, tokens, _bert_normalizer(content.get("normalizer")))
  return WordPiece(tokens, rules, str(path))


def _bert_normalizer(normalizer: Any) -> dict[str, Any]:
  """The settings of the BertNormalizer somewhere in `normalizer`, or none."""
  if not isinstance(normalizer, dict):
    return {}
  if normalizer.get("type") == "BertNormalizer":
    return normalizer
  for step in normalizer.get("normalizers") or ():
    if found := _bert_normalizer(step):
      return found
  return {}


def _rules(
  path: pathlib.Path, tokens: list[str], normalizer: dict[str, Any]
) -> WordRules:
  config_path = path.parent / "tokenizer_config.json"
  config = _read_json(config_path) if config_path.is_file() else {}
  cased = any(_UPPER_CASE.match(token) for token in tokens)

  def setting(name: str, old_name: str, default: bool | None) -> bool | None:
    value = config.get(name, normalizer.get(old_name, default))
    if value is not None and not isinstance(value, bool):
      raise UserError(f"{config_path}: {name}: expected a bool, got {value!r}")
    return default if value is None else value

  return WordRules(
    lowercase=setting("do_lower_case", "lowercase", not cased),
    strip_accents=setting("strip_accents", "strip_accents", None),
    split_cjk=setting("tokenize_chinese_chars", "handle_chinese_chars", True),
  )


def _read_bytes(path: pathlib.Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise UserError(f"{path}: {error.strerror}") from error


def _read(path: pathlib.Path) -> str:
  data = _read_bytes(path)
  try:
    return data.decode("utf-8")
  except UnicodeDecodeError as error:
    line = data.count(b"\n", 0, error.start) + 1
    raise UserError(f"{path}, line {line}: invalid UTF-8") from error


def _read_json(path: pathlib.Path) -> dict[str, Any]:
  try:
    content = json.loads(_read(path))
  except (json.JSONDecodeError, RecursionError) as error:
    raise UserError(f"{path}: damaged JSON ({error})") from error
  if not isinstance(content, dict):
    raise UserError(f"{path}: expected a JSON object")
  return content
