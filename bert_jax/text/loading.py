"""Loads tokenizers from files of any supported format."""

import dataclasses
import itertools
import json
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.text import (
  basic_tokenizer,
  byte_level,
  config_files,
  files,
  json_format,
  sentencepiece,
)
from bert_jax.text.basic_tokenizer import WordRules
from bert_jax.text.json_format import FILE_NAME
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.text.tokenizer_json import JsonTokenizer
from bert_jax.text.wordpiece import (
  MAX_CHARACTERS,
  MPNET,
  MPNET_TOKENS,
  VOCABULARY,
  WordPiece,
)

_UPPER_CASE = re.compile(r"(##)?[A-Z]")
_WORDPIECE_CLASSES = (
  "BertTokenizer",
  "DistilBertTokenizer",
  "ElectraTokenizer",
  MPNET,
)
_ANY = "PreTrainedTokenizerFast"
"""The class of Transformers that runs any `tokenizer.json`."""
_USUAL = (config_files.BERT, config_files.ROBERTA)
_MPNET = dict(zip(config_files.KEYS, MPNET_TOKENS))
_WORD_KEYS = {
  "lowercase": ("do_lower_case", "lowercase"),
  "strip_accents": ("strip_accents", "strip_accents"),
  "split_cjk": ("tokenize_chinese_chars", "handle_chinese_chars"),
}
"""The fields of `WordRules` in `tokenizer_config.json` and `BertNormalizer`."""


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

  Without `rules`, text is split into words as by `load`. Blank and repeated
  lines are read as by Transformers: see `WordPiece`.

  Raises:
    UserError: the file does not exist, is empty or not UTF-8, or lacks a
      special token.
  """
  path = paths.local(path)
  folder = path.parent
  tokens = _lines(path)
  if not any(tokens):
    raise UserError(f"{path}: the vocabulary is empty")
  ids = {token: id for id, token in enumerate(tokens)}
  own = config_files.tokenizer_class(folder)
  model = files.read_settings(folder, "config.json").get("model_type")
  is_mpnet = own.startswith(MPNET) if own else model == "mpnet"
  names, added = config_files.tokens(
    folder, ids, str(path), usual=[_MPNET] if is_mpnet else _USUAL
  )
  for name, (_, id, _) in added.items():
    if ids.setdefault(name, len(tokens)) == len(tokens):
      tokens.append(name)
    if id not in (None, ids[name]):
      raise UserError(
        f"{folder}: the added token {name!r} has the id {id}, but it would be"
        f" {ids[name]} after the tokens of {path.name}"
      )
  return WordPiece(
    tokens,
    rules or _rules(folder, tokens),
    str(path),
    [token for token, _, _ in added.values()],
    names,
    is_mpnet,
    config_files.flag(folder, config_files.SPLIT),
  )


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
  ids = json_format.token_ids(content, str(path))
  if folder is not None:
    _check_agreement(folder, path, content, ids)
  return _load_json(path, data, content, ids)


def _load_json(
  path: pathlib.Path,
  data: bytes,
  content: dict[str, Any],
  ids: Mapping[str, int],
) -> JsonTokenizer:
  """The tokenizer of a `tokenizer.json` and of the settings next to it."""
  folder, where = path.parent, str(path)
  around = json_format.frame(content)
  known = json_format.own_names(content, ids)
  names, added = config_files.tokens(folder, ids, where, known)
  if extended := json_format.with_added(content, added, where):
    data, content = extended.encode(), json.loads(extended)
    ids = json_format.token_ids(content, where)
  split = config_files.flag(folder, config_files.SPLIT)
  if json_format.model_type(content) == "WordPiece":
    changes = _word_settings(folder)
    rules = _bert_rules(content)
    if rules and around:
      tokens = [""] * (1 + max(ids.values()))
      for token, id in ids.items():
        tokens[id] = token
      return WordPiece(
        tokens,
        dataclasses.replace(rules, **changes),
        where,
        [
          config_files.added_token(entry, where)
          for entry in json_format.added_entries(content)
        ],
        names,
        around.separators == 2,
        split,
      )
    step = content.get("normalizer")
    if _type(step) == "BertNormalizer" and changes:
      theirs = {_WORD_KEYS[name][1]: value for name, value in changes.items()}
      content["normalizer"] = step | theirs
      data = json.dumps(content).encode()
  settings = config_files.to_save(
    _class_of(folder, content, names),
    names,
    add_prefix_space=_prefix_space(folder, content),
    do_lower_case=config_files.flag(folder, "do_lower_case"),
    keep_accents=config_files.flag(folder, "keep_accents"),
    split_by_punct=config_files.flag(folder, "split_by_punct"),
    split_special_tokens=split,
  )
  return JsonTokenizer({FILE_NAME: data}, names, settings, where)


def _type(step: Any) -> Any:
  return step.get("type") if isinstance(step, dict) else None


def _check_agreement(
  folder: pathlib.Path,
  path: pathlib.Path,
  content: Mapping[str, Any],
  ids: Mapping[str, int],
) -> None:
  """Checks that older files next to a `tokenizer.json` agree with it.

  Files of other models than that of the `tokenizer.json` are not used by
  anyone.
  """
  kind = json_format.model_type(content)
  added = {token["content"] for token in json_format.added_entries(content)}
  theirs: Mapping[str, int] = {}
  other = folder / byte_level.VOCABULARY
  if kind == "BPE" and other.is_file():
    theirs = files.read_json(other)
  elif kind in json_format.BY_WORD and (folder / VOCABULARY).is_file():
    other = folder / VOCABULARY
    theirs = {token: id for id, token in enumerate(_lines(other)) if token}
  for token in {**ids, **theirs} if theirs else ():
    if not token or (token in added and token not in theirs):
      continue
    if (mine := ids.get(token)) != (found := theirs.get(token)):
      raise UserError(
        f"{other}: {token!r:.60} has the id {found!r:.20} here, but {mine} in"
        f" {path.name} of the same folder"
      )
  if kind == "BPE" and (other := folder / byte_level.MERGES).is_file():
    text = files.decode(files.read_bytes(other), other)
    merges = content["model"].get("merges") or ()
    pairs = [tuple(m.split(" ") if isinstance(m, str) else m) for m in merges]
    if pairs != byte_level.parse_merges(text, str(other)):
      raise UserError(
        f"{other}: differs from the merges in {path.name} of the same folder"
      )


def _class_of(
  folder: pathlib.Path, content: Mapping[str, Any], names: Mapping[str, str]
) -> str:
  """The class of Transformers that runs such a tokenizer as it is written."""
  kind = json_format.model_type(content)
  by_names = {
    ("BPE", "<s>", "<pad>"): byte_level.CLASS,
    ("Unigram", "<s>", "<pad>"): sentencepiece.XLM_R,
    ("Unigram", "[CLS]", "<pad>"): sentencepiece.ALBERT,
    ("Unigram", "[CLS]", "[PAD]"): sentencepiece.DEBERTA,
  }
  known = by_names.get((kind, names["cls"], names["pad"]))
  own = config_files.tokenizer_class(folder)
  # Classes for WordPiece have their word rules.
  is_other = kind in json_format.BY_WORD
  return _ANY if is_other else own or known or _ANY


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


def _bert_rules(content: Mapping[str, Any]) -> WordRules | None:
  """The word rules of a WordPiece tokenizer; None if they are not BERT's."""
  model, step = content["model"], content.get("normalizer")
  limit = model.get("max_input_chars_per_word", MAX_CHARACTERS)
  prefix = model.get("continuing_subword_prefix", json_format.PREFIX)
  if limit != MAX_CHARACTERS or prefix != json_format.PREFIX:
    return None
  splitter = content.get("pre_tokenizer")
  if _type(step) == "BertNormalizer" and _type(splitter) == "BertPreTokenizer":
    fields = {
      name: step.get(theirs) for name, (_, theirs) in _WORD_KEYS.items()
    }
    is_whole = step.get("clean_text", True) is True and all(
      isinstance(fields[name], bool) for name in ("lowercase", "split_cjk")
    )
    return WordRules(**fields) if is_whole else None
  for fields in itertools.product(
    (True, False), (None, True, False), (True, False)
  ):
    rules = WordRules(*fields)
    ours = (
      basic_tokenizer.normalizer(rules),
      basic_tokenizer.pre_tokenizer(rules),
    )
    if [json.loads(x.__getstate__()) for x in ours] == [step, splitter]:
      return rules
  return None


def _rules(folder: pathlib.Path, tokens: Sequence[str]) -> WordRules:
  cased = any(_UPPER_CASE.match(token) for token in tokens)
  return WordRules(**{"lowercase": not cased, **_word_settings(folder)})


def _word_settings(folder: pathlib.Path) -> dict[str, bool | None]:
  """The fields of `WordRules` that the settings have."""
  given = {
    name: config_files.flag(folder, key, ...)
    for name, (key, _) in _WORD_KEYS.items()
  }
  return {
    name: value
    for name, value in given.items()
    if value is not ... and (name == "strip_accents" or value is not None)
  }


def _lines(path: pathlib.Path) -> list[str]:
  # Not splitlines: a token can be a line separator of Unicode.
  text = files.decode(files.read_bytes(path), path)
  lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
  if not lines[-1]:
    lines.pop()
  return lines
