"""Loads the given vocabulary of a corpus, or samples text to train one."""

from typing import Any

import numpy as np

from bert_jax import settings
from bert_jax import text as text_lib
from bert_jax.data import sources
from bert_jax.data.sources import files
from bert_jax.storage import paths
from bert_jax.text import files as tokenizer_files
from bert_jax.text import loading
from bert_jax.text.basic_tokenizer import WordRules
from bert_jax.text.tokenizer import Tokenizer

_PROBED = 200


def load(given: str, lowercase: bool | None) -> Tokenizer:
  """The tokenizer that `config.corpus.vocabulary` names.

  `lowercase` tells whether text is lower-cased, which a `vocab.txt` does not;
  None follows the files.

  Raises:
    UserError: it cannot be read, or contradicts `lowercase`.
  """
  path = paths.local(given).expanduser()
  if path.suffix == ".txt" and lowercase is not None:
    return loading.from_vocabulary_file(path, WordRules(lowercase))
  tokenizer = text_lib.load(path)
  rules = getattr(tokenizer, "rules", None)
  if lowercase not in (None, rules and rules.lowercase):
    raise settings.UserError(
      f"config.corpus.lowercase: contradicts {path}; remove the key"
    )
  return tokenizer


def describe(given: str | None) -> list[dict[str, Any]]:
  """Names, sizes and SHA-256 of the files of the given vocabulary, if any.

  Raises:
    UserError: the vocabulary cannot be read.
  """
  if given is None:
    return []
  path = paths.local(given).expanduser()
  text_lib.load(path)
  where = given if paths.is_remote(given) else str(path)
  if not path.is_dir():
    return files.describe([where])
  names = [name for name in tokenizer_files.NAMES if (path / name).is_file()]
  names += sorted(model.name for model in path.glob("*.model"))
  return files.describe([f"{where}/{name}" for name in names])


def sample_step(source: sources.Source, characters: int) -> int:
  """The n for which every n-th document gives about `characters` in total."""
  size = len(source)
  probed = np.linspace(0, size - 1, min(size, _PROBED)).astype(int)
  mean = np.mean([len(source[i]["text"]) for i in probed.tolist()])
  return max(1, int(mean * size / characters))
