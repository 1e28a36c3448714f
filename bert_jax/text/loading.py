"""Loads tokenizers from files of any supported format."""

import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tokenizers

from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.text import (
  byte_level,
  config_files,
  files,
  sentencepiece,
  tokenizer_json,
)
from bert_jax.text.basic_tokenizer import WordRules
from bert_jax.text.files import read_settings
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.text.tokenizer_json import FILE_NAME, JsonTokenizer
from bert_jax.text.wordpiece import (
  MPNET,
  MPNET_TOKENS,
  PREFIX,
  SPECIAL_TOKENS,
  WordPiece,
)

_UPPER_CASE = re.compile(r"(##)?[A-Z]")
_WORDPIECE_CLASSES = (
  "BertTokenizer",
  "DistilBertTokenizer",
  "ElectraTokenizer",
  MPNET,
)


def load(path: pathlib.Path | str) -> Tokenizer:
  """Loads a tokenizer.

  The settings in `tokenizer_config.json` and `special_tokens_map.json` next to
  the file are used. If they do not say whether text is lower-cased, it is
  lower-cased unless the vocabulary has upper-case tokens.

  Args:
    path: a folder, or a file in it: `tokenizer.json`; `vocab.txt` (WordPiece);
      `vocab.json` and `merges.txt` (byte-level BPE of RoBERTa); or one
      SentencePiece `.model` (ALBERT, XLM-R, DeBERTa). Local or in a store.

  Raises:
    UserError: the file does not exist, is damaged or of another format, or
      lacks a special token, or files of the folder have different ids for a
      token; the message names the file.
  """
  path = paths.local(path)
  if path.is_dir():
    folder, path = path, _find(path)
  elif not path.is_file():
    raise UserError(f"{path}: no such file or folder")
  else:
    folder = None
  try:
    return _load_file(path, folder)
  except RecursionError as error:
    raise UserError(f"{path}: nested too deeply") from error


def from_vocabulary_file(
  path: pathlib.Path | str, rules: WordRules | None = None
) -> WordPiece:
  """Loads a `vocab.txt`, which has one token per line, in the order of ids.

  Without `rules`, text is split into words as by `load`.

  Raises:
    UserError: the file does not exist, is empty or not UTF-8, has duplicate
      lines or lacks a special token.
  """
  path = paths.local(path)
  tokens = _lines(path)
  added = config_files.added_tokens(path.parent)
  for id, token in sorted(added.items()):
    if id == len(tokens):
      tokens.append(token.content)
    elif tokens[id : id + 1] != [token.content]:
      raise UserError(
        f"{path.parent}: the added token {token.content!r} has the id {id}, but"
        f" {path.name} has {len(tokens)} tokens and not this one at that id"
      )
  rules = rules or _rules(path, tokens, {})
  return _wordpiece(path, tokens, rules, added.values(), _is_mpnet(path))


def _find(folder: pathlib.Path) -> pathlib.Path:
  """The most informative tokenizer file of a folder."""
  for name in (FILE_NAME, "vocab.txt", byte_level.VOCABULARY):
    if (folder / name).is_file():
      return folder / name
  models = sorted(folder.glob("*.model"))
  if len(models) == 1:
    return models[0]
  raise UserError(
    f"{folder}: expected {FILE_NAME}, vocab.txt, {byte_level.VOCABULARY} or one"
    " .model file, found"
    f" {', '.join(sorted(p.name for p in folder.iterdir())[:8]) or 'nothing'}"
  )


def _load_file(path: pathlib.Path, folder: pathlib.Path | None) -> Tokenizer:
  if path.suffix == ".model":
    return sentencepiece.load(path)
  if path.name in (byte_level.VOCABULARY, byte_level.MERGES):
    return byte_level.load(path.parent)
  if path.suffix != ".json":
    config_files.check_class(path, _WORDPIECE_CLASSES)
    return from_vocabulary_file(path)
  data = files.read_bytes(path)
  content = files.parse_json(data, path)
  ids = tokenizer_json.token_ids(content, str(path))
  if tokenizer_json.model_type(content) == "WordPiece":
    tokenizer = _load_wordpiece(path, content, ids)
  else:
    tokenizer = _load_json_tokenizer(path, data, content, ids)
  if folder is not None:
    _check_agreement(folder, path, content, ids)
  return tokenizer


def _load_json_tokenizer(
  path: pathlib.Path,
  data: bytes,
  content: Mapping[str, Any],
  ids: Mapping[str, int],
) -> JsonTokenizer:
  """The tokenizer of a `tokenizer.json` that is not WordPiece."""
  names = config_files.special_tokens(path.parent, ids, {}, str(path))
  folder = path.parent
  settings = config_files.to_save(
    config_files.tokenizer_class(folder) or _class_of(content, names),
    names,
    add_prefix_space=_prefix_space(folder, content),
    do_lower_case=config_files.flag(folder, "do_lower_case"),
    keep_accents=config_files.flag(folder, "keep_accents"),
    split_by_punct=config_files.flag(folder, "split_by_punct"),
  )
  return JsonTokenizer({FILE_NAME: data}, names, settings, str(path))


def _check_agreement(
  folder: pathlib.Path,
  path: pathlib.Path,
  content: Mapping[str, Any],
  ids: Mapping[str, int],
) -> None:
  """Checks that older files next to a `tokenizer.json` agree with it."""
  others: list[tuple[pathlib.Path, Mapping[str, int]]] = []
  if (other := folder / "vocab.txt").is_file():
    others.append(
      (other, {token: id for id, token in enumerate(_lines(other))})
    )
  if (other := folder / byte_level.VOCABULARY).is_file():
    others.append((other, files.read_json(other)))
  added = {token["content"] for token in tokenizer_json.added_entries(content)}
  for other, theirs in others:
    for token in {**ids, **theirs}:
      if token in added and token not in theirs:
        continue
      if (mine := ids.get(token)) != (found := theirs.get(token)):
        raise UserError(
          f"{other}: {token!r:.60} has the id {found!r:.20} here, but {mine} in"
          f" {path.name} of the same folder"
        )
  if (other := folder / byte_level.MERGES).is_file():
    text = files.decode(files.read_bytes(other), other)
    merges = content["model"].get("merges") or ()
    pairs = [tuple(m.split(" ") if isinstance(m, str) else m) for m in merges]
    if pairs != byte_level.parse_merges(text, str(other)):
      raise UserError(
        f"{other}: differs from the merges in {path.name} of the same folder"
      )


def _class_of(content: Mapping[str, Any], names: Mapping[str, str]) -> str:
  """The class of Transformers for such a tokenizer."""
  form = (tokenizer_json.model_type(content), names["cls"], names["pad"])
  return {
    ("BPE", "<s>", "<pad>"): byte_level.CLASS,
    ("Unigram", "<s>", "<pad>"): sentencepiece.XLM_R,
    ("Unigram", "[CLS]", "<pad>"): sentencepiece.ALBERT,
    ("Unigram", "[CLS]", "[PAD]"): sentencepiece.DEBERTA,
  }.get(form, "PreTrainedTokenizerFast")


def _prefix_space(
  folder: pathlib.Path, content: Mapping[str, Any]
) -> bool | None:
  """Whether a byte-level tokenizer adds a space before the first word.

  None for other tokenizers. Transformers reads it from `tokenizer_config.json`.
  """
  step = content.get("pre_tokenizer")
  if not isinstance(step, dict) or step.get("type") != "ByteLevel":
    return None
  value = config_files.flag(folder, "add_prefix_space")
  return bool(step.get("add_prefix_space")) if value is None else value


def _load_wordpiece(
  path: pathlib.Path, content: Mapping[str, Any], ids: Mapping[str, int]
) -> WordPiece:
  """The WordPiece tokenizer of a `tokenizer.json`.

  Only the vocabulary, the added tokens and the word rules are used, so that the
  ids of a text do not depend on the program that wrote the file.
  """
  prefix = content["model"].get("continuing_subword_prefix", PREFIX)
  if prefix != PREFIX:
    raise UserError(f"{path}: expected pieces with {PREFIX!r}, got {prefix!r}")
  tokens = sorted(ids, key=ids.__getitem__)
  rules = _rules(path, tokens, _bert_normalizer(content.get("normalizer")))
  added = [
    config_files.added_token(token, str(path))
    for token in tokenizer_json.added_entries(content)
  ]
  doubled = _has_double_separator(content.get("post_processor"))
  if doubled is None:
    doubled = _is_mpnet(path)
  return _wordpiece(path, tokens, rules, added, doubled)


def _wordpiece(
  path: pathlib.Path,
  tokens: Sequence[str],
  rules: WordRules,
  added: Iterable[tokenizers.AddedToken],
  double_separator: bool,
) -> WordPiece:
  """The tokenizer with the special tokens that the settings name."""
  usual = MPNET_TOKENS if double_separator else SPECIAL_TOKENS
  names = config_files.special_tokens(
    path.parent, tokens, {}, str(path), dict(zip(config_files.KEYS, usual))
  )
  return WordPiece(
    tokens,
    rules,
    str(path),
    list(added),
    tuple(names.values()),
    double_separator,
  )


def _is_mpnet(path: pathlib.Path) -> bool:
  name = config_files.tokenizer_class(path.parent)
  if name is None:
    return (
      read_settings(path.parent, "config.json").get("model_type") == "mpnet"
    )
  return name.removesuffix("Fast") == MPNET


def _has_double_separator(step: Any) -> bool | None:
  """Whether two separators are between texts; None without a post-processor."""
  if not isinstance(step, dict):
    return None
  pair = step.get("pair")
  if isinstance(pair, list):
    return sum("SpecialToken" in part for part in pair) == 4
  return step.get("type") == "RobertaProcessing"


def _bert_normalizer(normalizer: Any) -> dict[str, Any]:
  """The settings of a BertNormalizer, which may be nested; else none."""
  if not isinstance(normalizer, dict):
    return {}
  if normalizer.get("type") == "BertNormalizer":
    return normalizer
  steps = normalizer.get("normalizers")
  for step in steps if isinstance(steps, list) else ():
    if found := _bert_normalizer(step):
      return found
  return {}


def _rules(
  path: pathlib.Path, tokens: list[str], normalizer: dict[str, Any]
) -> WordRules:
  cased = any(_UPPER_CASE.match(token) for token in tokens)

  def setting(name: str, old_name: str, default: bool | None) -> bool | None:
    value = config_files.flag(path.parent, name, normalizer.get(old_name))
    return default if value is None else value

  return WordRules(
    lowercase=setting("do_lower_case", "lowercase", not cased),
    strip_accents=setting("strip_accents", "strip_accents", None),
    split_cjk=setting("tokenize_chinese_chars", "handle_chinese_chars", True),
  )


def _lines(path: pathlib.Path) -> list[str]:
  # Not splitlines: a token can be a line separator of Unicode.
  text = files.decode(files.read_bytes(path), path)
  lines = text.replace("\r\n", "\n").split("\n")
  if not lines[-1]:
    lines.pop()
  return lines
