"""Byte-level BPE of RoBERTa from `vocab.json` and `merges.txt`."""

import json
import pathlib
from collections.abc import Mapping, Sequence

import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors

from bert_jax.settings import UserError
from bert_jax.text import config_files, files, json_format
from bert_jax.text.config_files import ROBERTA
from bert_jax.text.tokenizer_json import JsonTokenizer

VOCABULARY = "vocab.json"
MERGES = "merges.txt"
CLASS = "RobertaTokenizer"
"""The class of Transformers for these files."""


def load(folder: pathlib.Path) -> JsonTokenizer:
  """Loads `vocab.json` and `merges.txt`, or raises a `UserError`."""
  path, merges_path = folder / VOCABULARY, folder / MERGES
  config_files.check_class(path, [CLASS])
  data, merges_data = files.read_bytes(path), files.read_bytes(merges_path)
  vocab = files.parse_json(data, path)
  ids = json_format.token_ids({"model": {"vocab": vocab}}, str(path))
  names, added = config_files.tokens(
    folder, ids, str(path), usual=(config_files.ROBERTA, config_files.BERT)
  )
  prefix = config_files.flag(folder, "add_prefix_space") or False
  merges = parse_merges(
    files.decode(merges_data, merges_path), str(merges_path)
  )
  config_files.check_frame(names, ids, str(path))
  backend = build(ids, merges, names, prefix, str(merges_path))
  return JsonTokenizer.of_backend(
    backend,
    {VOCABULARY: data, MERGES: merges_data},
    names,
    config_files.to_save(
      CLASS,
      names,
      add_prefix_space=prefix,
      split_special_tokens=config_files.flag(folder, config_files.SPLIT),
    ),
    added,
    str(path),
  )


def of_merges(
  tokens: Sequence[str], merges: Sequence[tuple[str, str]]
) -> JsonTokenizer:
  """The tokenizer of a trained vocabulary, as by `byte_level_trainer.train`.

  The first word of a text is encoded as if a space preceded it.
  """
  ids, names = {token: id for id, token in enumerate(tokens)}, ROBERTA
  lines = ["#version: 0.2", *map(" ".join, merges), ""]
  return JsonTokenizer.of_backend(
    build(ids, merges, names, True, VOCABULARY),
    {
      VOCABULARY: json.dumps(ids, ensure_ascii=False).encode(),
      MERGES: "\n".join(lines).encode(),
    },
    names,
    config_files.to_save(CLASS, names, add_prefix_space=True),
    {},
    VOCABULARY,
  )


def parse_merges(text: str, where: str) -> list[tuple[str, str]]:
  """The merges of a `merges.txt` in order; a `UserError` names a wrong line."""
  merges = []
  for number, line in enumerate(text.split("\n"), start=1):
    line = line.removesuffix("\r")
    if not line or (number == 1 and line.startswith("#version")):
      continue
    pair = line.split(" ")
    if len(pair) != 2 or not all(pair):
      raise UserError(
        f"{where}, line {number}: expected two tokens, got {line!r:.60}"
      )
    merges.append((pair[0], pair[1]))
  return merges


def build(
  ids: Mapping[str, int],
  merges: Sequence[tuple[str, str]],
  names: Mapping[str, str],
  add_prefix_space: bool,
  where: str,
) -> tokenizers.Tokenizer:
  """Builds the byte-level BPE of RoBERTa's published `tokenizer.json`.

  `names` has the token of each field of `SpecialIds`.

  Raises:
    UserError: the files are inconsistent, for instance the result of a merge
      is not in the vocabulary.
  """
  with json_format.library_errors(where):
    model = models.BPE(
      vocab=dict(ids),
      merges=list(merges),
      continuing_subword_prefix="",
      end_of_word_suffix="",
    )
  backend = tokenizers.Tokenizer(model)
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(
    add_prefix_space=add_prefix_space
  )
  backend.decoder = decoders.ByteLevel()
  backend.post_processor = processors.RobertaProcessing(
    (names["sep"], ids[names["sep"]]),
    (names["cls"], ids[names["cls"]]),
    add_prefix_space=add_prefix_space,
  )
  return backend
