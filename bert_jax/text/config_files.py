"""Reads and writes the tokenizer settings of Transformers.

They are in `tokenizer_config.json`, and in the older `special_tokens_map.json`
and `added_tokens.json`, next to the vocabulary.
"""

import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

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

BERT = dict(zip(KEYS, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")))
"""The names of the special tokens of BERT."""
ROBERTA = dict(zip(KEYS, ("<pad>", "<unk>", "<s>", "</s>", "<mask>")))
"""The names of the special tokens of RoBERTa."""

# Transformers saves these names for vocabularies without a mask too.
_MASKS = (BERT["mask"], ROBERTA["mask"])

SPLIT = "split_special_tokens"
"""The key of Transformers for whether special tokens in text are text."""


class Added(NamedTuple):
  """A token that is found in text before the text is split into words.

  Attributes:
    token: its name, and how it is found.
    id: None for the next free id.
    has_flags: whether the settings say how it is found, or only name it.
  """

  token: tokenizers.AddedToken
  id: int | None
  has_flags: bool


def flag(folder: pathlib.Path, name: str, unset: Any = None) -> Any:
  """A bool in `tokenizer_config.json`, or `unset`; else a `UserError`."""
  settings = read_settings(folder, CONFIG)
  value = settings.get(name)
  if value is not None and not isinstance(value, bool):
    raise UserError(
      f"{folder / CONFIG}: {name}: expected a bool, got {value!r:.60}"
    )
  return settings.get(name, unset)


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


def to_save(name: str, names: Mapping[str, str], **more: Any) -> dict[str, Any]:
  """The content of `tokenizer_config.json`.

  `name` is the class of Transformers, `names` the token of each field of
  `SpecialIds`; further settings that are None are omitted.
  """
  settings: dict[str, Any] = {"tokenizer_class": name}
  if not name.startswith(("PreTrained", "Bert")):
    settings |= {"bos_token": names["cls"], "eos_token": names["sep"]}
  settings |= {key: names.get(role) for role, key in KEYS.items()}
  return settings | {k: v for k, v in more.items() if v is not None}


def tokens(
  folder: pathlib.Path,
  vocabulary: Collection[str],
  where: str,
  known: Mapping[str, str] | None = None,
  usual: Sequence[Mapping[str, str]] = (BERT, ROBERTA),
) -> tuple[dict[str, str], dict[str, Added]]:
  """The special tokens, and those that the settings add to a vocabulary.

  Args:
    folder: the folder of the settings.
    vocabulary: its tokens.
    where: the name of the vocabulary in messages.
    known: special tokens that settings do not change.
    usual: the names to try without settings.

  Returns:
    The name of each field of `SpecialIds`; a vocabulary may lack the mask. The
    added tokens by name, in the order in which Transformers adds them; special
    tokens are among them if the settings say how they are found in text.

  Raises:
    UserError: the settings are damaged; or see `_special_tokens`.
  """
  added = _added_tokens(folder, vocabulary)
  names = _special_tokens(
    folder, {*vocabulary, *added}, where, known or {}, usual
  )
  special = {*names.values()}
  return names, {
    name: token
    for name, token in added.items()
    if token.has_flags or name not in special
  }


def _special_tokens(
  folder: pathlib.Path,
  tokens: Collection[str],
  where: str,
  known: Mapping[str, str],
  usual: Sequence[Mapping[str, str]],
) -> dict[str, str]:
  """The token of each field of `SpecialIds`.

  Raises:
    UserError: the settings name a token that is not in the vocabulary, or the
      same token for two fields, or there is no token for a field.
  """
  found = dict(known)
  missing = []
  settings = [(name, read_settings(folder, name)) for name in (_MAP, CONFIG)]
  if settings[1][1].get("added_tokens_decoder"):
    settings.reverse()  # As in Transformers, the older file is not read then.
  # The classification token first, which tells the style of the others.
  for role in sorted(KEYS, key=lambda role: role != "cls"):
    if role in found:
      continue
    key = KEYS[role]
    style = sorted(usual, key=lambda names: names["cls"] != found.get("cls"))
    likely = [names[role] for names in style if names[role] in tokens]
    named = [(n, part[key]) for n, part in settings if part.get(key)]
    file, value = named[0] if named else (None, None)
    token = value.get("content") if isinstance(value, dict) else value
    if named and isinstance(token, str) and token in tokens:
      found[role] = token
    elif named and (role != "mask" or likely or token not in _MASKS):
      raise UserError(
        f"{folder / file}: {key}: expected a token of {where}, got {token!r}"
      )
    elif likely:
      found[role] = likely[0]
    elif role != "mask":
      names = dict.fromkeys(names[role] for names in usual)
      missing.append(f"{role} ({' or '.join(names)})")
  if missing:
    raise UserError(
      f"{where}: no token among its {len(tokens)} for {', '.join(missing)}, and"
      f" neither {CONFIG} nor {_MAP} names one"
    )
  if len(set(found.values())) < len(found):
    raise UserError(f"{where}: expected different special tokens, got {found}")
  return {role: found[role] for role in KEYS if role in found}


def _added_tokens(
  folder: pathlib.Path, tokens: Collection[str]
) -> dict[str, Added]:
  """The tokens of the settings; others than added ones if in `tokens`."""
  special = _named_tokens(folder, CONFIG)
  listed = read_settings(folder, CONFIG).get("added_tokens_decoder")
  path = folder / CONFIG
  if not listed:
    special |= _named_tokens(folder, _MAP)
    path = folder / _ADDED
    listed = {
      id: {"content": token, "special": token in special}
      for token, id in read_settings(folder, _ADDED).items()
    }
  if not isinstance(listed, dict):
    raise UserError(f"{path}: added_tokens_decoder: expected an object")
  added = {}
  for value, content in listed.items():
    try:
      id = int(value)
    except (TypeError, ValueError) as error:
      raise UserError(
        f"{path}: expected the id of an added token, got {value!r:.40}"
      ) from error
    token = added_token(content, f"{path}: added token {id}")
    token.special = token.special or token.content in special
    added[token.content] = Added(token, id, True)
  ordered = sorted(added.items(), key=lambda item: item[1].id)
  new = {
    name: token
    for name, (token, is_more) in special.items()
    if name not in added and (is_more or name in tokens)
  }
  return dict(ordered) | new


def _named_tokens(
  folder: pathlib.Path, file: str
) -> dict[str, tuple[Added, bool]]:
  """The special tokens in the settings, and whether they are additional."""
  settings = read_settings(folder, file)
  listed = [(x, False) for key, x in settings.items() if key.endswith("_token")]
  for key in ("additional_special_tokens", "extra_special_tokens"):
    more = settings.get(key) or []
    more = list(more.values()) if isinstance(more, dict) else more
    if not isinstance(more, list) or not all(
      isinstance(token, str | dict) for token in more
    ):
      raise UserError(
        f"{folder / file}: {key}: expected a list of tokens, got {more!r:.60}"
      )
    listed += [(token, True) for token in more]
  found = {}
  for value, is_more in listed:
    # Other settings, such as `add_bos_token`, are bools.
    if isinstance(value, str | dict) and value:
      entry = value if isinstance(value, dict) else {"content": value}
      token = added_token({**entry, "special": True}, str(folder / file))
      new = Added(token, None, entry is value), is_more
      found.setdefault(token.content, new)
  return found


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


def check_frame(
  names: Mapping[str, str], ids: Collection[str], where: str
) -> None:
  """Raises a `UserError` if tokens that every text needs are added ones."""
  for role in ("unknown", "cls", "sep"):
    if names[role] not in ids:
      raise UserError(
        f"{where}: {KEYS[role]}: {names[role]!r:.60} is not in the vocabulary,"
        " but added to it"
      )


def entry(token: tokenizers.AddedToken) -> dict[str, Any]:
  """The inverse of `added_token`, without an id."""
  flags = {name: getattr(token, name) for name in _FLAGS}
  return {"content": token.content, **flags}
