"""Where the vocabulary of a corpus comes from."""

import pathlib
from typing import Any

import numpy as np

from bert_jax import settings
from bert_jax import text as text_lib
from bert_jax.data import sources
from bert_jax.data.sources import files
from bert_jax.text import files as tokenizer_files
from bert_jax.text import loading
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.text.words import WordRules

_PROBED = 200


def load(given: str, lowercase: bool | None) -> Tokenizer:
  """The tokenizer that `config.corpus.vocabulary` names.

  Args:
    given: a folder or file that `bert_jax.text.load` reads.
    lowercase: whether case is dropped, which a list of tokens does not say;
      None follows the files.

  Raises:
    UserError: it cannot be read, or says otherwise than `lowercase`.
  """
  path = pathlib.Path(given).expanduser()
  if path.suffix == ".txt" and lowercase is not None:
    return loading.from_vocabulary_file(path, WordRules(lowercase))
  tokenizer = text_lib.load(path)
  rules = getattr(tokenizer, "rules", None)
  if lowercase not in (None, rules and rules.lowercase):
    raise settings.UserError(
      f"config.corpus.lowercase: {path} says otherwise; leave it out"
    )
  return tokenizer


def describe(given: str) -> list[dict[str, Any]]:
  """Names, sizes and SHA-256 of the files of a given vocabulary.

  Raises:
    UserError: it cannot be read; an error before any work.
  """
  path = pathlib.Path(given).expanduser()
  text_lib.load(path)
  paths = [path]
  if path.is_dir():
    named = [path / name for name in tokenizer_files.NAMES]
    paths = [name for name in named if name.is_file()]
    paths += sorted(path.glob("*.model"))
  return files.describe(list(map(str, paths)))


def sample_step(source: sources.Source, characters: int) -> int:
  """The n for which every n-th document makes about so many characters."""
  size = len(source)
  probed = np.linspace(0, size - 1, min(size, _PROBED)).astype(int)
  mean = np.mean([len(source[i]["text"]) for i in probed.tolist()])
  return max(1, int(mean * size / characters))
