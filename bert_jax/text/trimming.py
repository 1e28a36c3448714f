"""Vocabularies with fewer tokens."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from bert_jax.settings import UserError
from bert_jax.text.json_format import (
  FILE_NAME,
  PREFIX,
  added_entries,
  model_type,
  token_ids,
)


def needed(content: Mapping[str, Any], used: Iterable[int]) -> list[int]:
  """The ids that a vocabulary needs so that texts are encoded as before.

  These are the ids that the texts have; special and added tokens; single
  characters, so that other texts have few unknown tokens; and of BPE the
  tokens that others are merged from.

  Args:
    content: of `tokenizer.json`.
    used: the ids of all tokens of the texts.

  Returns:
    The ids, ascending.
  """
  ids = token_ids(content, FILE_NAME)
  kept = {*used, *(entry["id"] for entry in added_entries(content))}
  model = content["model"]
  for token, id in ids.items():
    if len(token.removeprefix(PREFIX)) == 1:
      kept.add(id)
  for name in (model.get("unk_token"), model.get("unk_id")):
    if name is not None:
      kept.add(ids.get(name, name))
  if "merges" in model:
    kept = _with_parts(map(_pair, model["merges"]), ids, kept)
  return sorted(kept)


def _pair(merge: str | Sequence[str]) -> tuple[str, str]:
  left, right = merge.split(" ") if isinstance(merge, str) else merge
  return left, right


def _with_parts(
  merges: Iterable[tuple[str, str]], ids: Mapping[str, int], kept: set[int]
) -> set[int]:
  """The ids with those of all tokens that theirs are merged from."""
  parts: dict[int, list[int]] = {}
  for left, right in merges:
    whole = ids.get(left + right)
    if whole is not None:
      parts.setdefault(whole, []).extend((ids[left], ids[right]))
  found, waiting = set(kept), list(kept)
  while waiting:
    for part in parts.get(waiting.pop(), ()):
      if part not in found:
        found.add(part)
        waiting.append(part)
  return found


def trimmed(files: Mapping[str, bytes], ids: Sequence[int]) -> dict[str, bytes]:
  """The files of a tokenizer with these tokens only, which get the ids 0, 1 ...

  Args:
    files: of a tokenizer; `tokenizer.json` among them.
    ids: of the tokens that are kept, ascending.

  Raises:
    UserError: the special tokens around texts are not among them.
  """
  content = json.loads(files[FILE_NAME])
  new = {old: id for id, old in enumerate(ids)}
  model = content["model"]
  vocab = model["vocab"]
  if isinstance(vocab, list):
    model["vocab"] = [entry for id, entry in enumerate(vocab) if id in new]
    if model.get("unk_id") is not None:
      model["unk_id"] = new[model["unk_id"]]
  else:
    model["vocab"] = {
      token: new[id] for token, id in vocab.items() if id in new
    }
  if "merges" in model:
    known = model["vocab"]

    def is_kept(merge: str | Sequence[str]) -> bool:
      left, right = _pair(merge)
      return {left, right, left + right} <= known.keys()

    model["merges"] = list(filter(is_kept, model["merges"]))
  content["added_tokens"] = [
    {**entry, "id": new[entry["id"]]}
    for entry in added_entries(content)
    if entry["id"] in new
  ]
  if content.get("post_processor"):
    content["post_processor"] = _renumbered(content["post_processor"], new)
  written = json.dumps(content, ensure_ascii=False).encode()
  return {**_vocabularies(files, content), FILE_NAME: written}


def _renumbered(step: Any, new: Mapping[int, int]) -> Any:
  """A post-processor with new ids."""
  if isinstance(step, list):
    return [_renumbered(x, new) for x in step]
  if not isinstance(step, dict):
    return step
  found = {name: _renumbered(x, new) for name, x in step.items()}
  try:
    if step.get("type") in ("BertProcessing", "RobertaProcessing"):
      for name in ("cls", "sep"):
        token, id = step[name]
        found[name] = [token, new[id]]
    elif step.get("type") == "TemplateProcessing":
      found["special_tokens"] = {
        name: {**entry, "ids": [new[id] for id in entry["ids"]]}
        for name, entry in step["special_tokens"].items()
      }
  except KeyError as error:
    raise UserError(
      f"{FILE_NAME}: the post-processor adds token {error}, which is not kept"
    ) from error
  return found


def _vocabularies(
  files: Mapping[str, bytes], content: Mapping[str, Any]
) -> dict[str, bytes]:
  """The other files; models of SentencePiece are left out.

  Transformers reads `tokenizer.json` where there is one.
  """
  kept = {name: x for name, x in files.items() if not name.endswith(".model")}
  ids = token_ids(content, FILE_NAME)
  tokens = sorted(ids, key=ids.__getitem__)
  if "vocab.txt" in kept:
    kept["vocab.txt"] = "".join(f"{token}\n" for token in tokens).encode()
  if "vocab.json" in kept:
    kept["vocab.json"] = json.dumps(ids, ensure_ascii=False).encode()
  if "merges.txt" in kept and model_type(content) == "BPE":
    lines = (" ".join(_pair(x)) for x in content["model"]["merges"])
    kept["merges.txt"] = "\n".join(["#version: 0.2", *lines, ""]).encode()
  return kept
