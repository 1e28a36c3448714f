"""Reads and writes the tokenizer settings of Transformers.

They are in `tokenizer_config.json`, and in the older `special_tokens_map.json`
and `added_tokens.json`, next to the vocabulary.
"""

import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import tokenizers

from bert_jax.settings import UserError
from bert_jax.text.files import read_settings

CONFIG = "tokenizer_config.json"
_MAP = "special_tokens_map.json"
_ADDED = "added_tokens.json"
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")

KEYS = {
  "pad": "pad_token",
  "unknown": "unk_token",
  "cls": "cls_token",
  "sep": "sep_token",
  "mask": "mask_token",
}
"""The keys of Transformers for the fields of `SpecialIds`."""

_USUAL = {
  "pad": ("<pad>", "[PAD]"),
  "unknown": ("<unk>", "[UNK]"),
  "cls": ("[CLS]", "<s>"),
  "sep": ("[SEP]", "</s>"),
  "mask": ("[MASK]", "<mask>"),
}


def flag(folder: pathlib.Path, name: str, unset: Any = None) -> bool | None:
  """A bool in `tokenizer_config.json`, or `unset`; else a `UserError`."""
  value = read_settings(folder, CONFIG).get(name, unset)
  if value is not None and not isinstance(value, bool):
    raise UserError(
      f"{folder / CONFIG}: {name}: expected a bool, got {value!r:.60}"
    )
  return value


def tokenizer_class(folder: pathlib.Path) -> str | None:
  """The class of Transformers in the settings, or None."""
  for file in (CONFIG, "config.json"):
    name = read_settings(folder, file).get("tokenizer_class")
    if isinstance(name, str) and name != "TokenizersBackend":
      return name
  return None


def check_class(path: pathlib.Path, known: Sequence[str]) -> None:
  """Raises a `UserError` if the settings name a class that is not known."""
  name = tokenizer_class(path.parent)
  if name and name.removesuffix("Fast") not in (*known, "PreTrainedTokenizer"):
    raise UserError(
      f"{path}: expected the tokenizer class {' or '.join(known)}, or a"
      f" tokenizer.json, got {name} in the settings"
    )


def to_save(
  name: str, names: Mapping[str, str], **more: bool | None
) -> dict[str, Any]:
  """The content of `tokenizer_config.json`.

  `name` is the class of Transformers, `names` the token of each field of
  `SpecialIds`; further settings that are None are omitted.
  """
  settings: dict[str, Any] = {"tokenizer_class": name}
  if not name.startswith("PreTrained"):
    settings |= {"bos_token": names["cls"], "eos_token": names["sep"]}
  settings |= {key: names[role] for role, key in KEYS.items()}
  return settings | {k: v for k, v in more.items() if v is not None}


def special_tokens(
  folder: pathlib.Path,
  ids: Iterable[str],
  added: Mapping[int, tokenizers.AddedToken],
  where: str,
  usual: Mapping[str, str] | None = None,
) -> dict[str, str]:
  """The token of each field of `SpecialIds`.

  If the settings in the folder do not name a token, the `usual` name is taken
  unchecked, or else the names of BERT and RoBERTa are tried.

  Raises:
    UserError: the settings name a token that is not in the vocabulary, or the
      same token for two fields, or there is no token for a field.
  """
  tokens = {*ids, *(token.content for token in added.values())}
  found, missing = {}, []
  settings = [(name, read_settings(folder, name)) for name in (CONFIG, _MAP)]
  for role, key in KEYS.items():
    named = [(n, part[key]) for n, part in settings if part.get(key)]
    if named:
      file, value = named[0]
      token = value.get("content") if isinstance(value, dict) else value
      if not isinstance(token, str) or token not in tokens:
        raise UserError(
          f"{folder / file}: {key}: expected a token of {where}, got {token!r}"
        )
      found[role] = token
    elif usual is not None:
      found[role] = usual[role]
    elif names := [name for name in _USUAL[role] if name in tokens]:
      found[role] = names[0]
    else:
      missing.append(f"{role} ({' or '.join(_USUAL[role])})")
  if missing:
    raise UserError(
      f"{where}: no token among its {len(tokens)} for {', '.join(missing)}, and"
      f" neither {CONFIG} nor {_MAP} names one"
    )
  if len(set(found.values())) < len(found):
    raise UserError(
      f"{where}: expected five different special tokens, got {found}"
    )
  return found


def added_tokens(folder: pathlib.Path) -> dict[int, tokenizers.AddedToken]:
  """The tokens added to a vocabulary without `tokenizer.json`, by id."""
  config = read_settings(folder, CONFIG)
  listed = config.get("added_tokens_decoder")
  path = folder / CONFIG
  if not listed:
    path = folder / _ADDED
    extra = _extra_special_tokens(folder, config)
    listed = {
      id: {"content": token, "special": token in extra}
      for token, id in read_settings(folder, _ADDED).items()
    }
  if not isinstance(listed, dict):
    raise UserError(f"{path}: added_tokens_decoder: expected an object")
  added = {}
  for value, token in listed.items():
    try:
      id = int(value)
    except (TypeError, ValueError) as error:
      raise UserError(
        f"{path}: expected the id of an added token, got {value!r:.40}"
      ) from error
    added[id] = added_token(token, f"{path}: added token {id}")
  return added


def _extra_special_tokens(
  folder: pathlib.Path, config: Mapping[str, Any]
) -> set[str]:
  """All tokens that the settings declare special."""
  values = []
  for part in (config, read_settings(folder, _MAP)):
    values += [x for key, x in part.items() if key.endswith("_token")]
    more = part.get("additional_special_tokens")
    values += more if isinstance(more, list) else []
  names = (v.get("content") if isinstance(v, dict) else v for v in values)
  return {name for name in names if isinstance(name, str)}


def added_token(token: Any, where: str) -> tokenizers.AddedToken:
  """An entry of `added_tokens` in a `tokenizer.json`, or a `UserError`."""
  content = token.get("content") if isinstance(token, dict) else None
  if not isinstance(content, str) or not content:
    raise UserError(f"{where}: expected a token, got {token!r:.60}")
  flags = {name: token[name] for name in _FLAGS if name in token}
  if not all(isinstance(flag, bool) for flag in flags.values()):
    raise UserError(f"{where}: expected true or false, got {flags!r:.90}")
  flags.setdefault("normalized", not flags.get("special", False))
  return tokenizers.AddedToken(content, **flags)
