"""Removes the tokens of a vocabulary that texts do not need.

Abdaoui et al. (2020), "Load What You Need: Smaller Versions of Multilingual
BERT" (arXiv:2010.05609). The word embedding is most of a multilingual model.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from bert_jax import trees
from bert_jax.data.sources.labelled import Record
from bert_jax.model import Model
from bert_jax.models import vocabulary
from bert_jax.settings import UserError
from bert_jax.tasks.task import Task


def trim(model: Model, texts: Sequence[str]) -> Model:
  """A model with the tokens that texts need.

  Outputs are the same, bit for bit, for texts of which all tokens are kept.

  Args:
    model: any, but no ensemble.
    texts: those that the model is for; each token of them is kept, and all
      special and added tokens and single characters.

  Raises:
    UserError: there are no texts, or the model has no vocabulary.
  """
  if model.tokenizer is None:
    raise UserError("trim: the model has no vocabulary")
  if not texts:
    raise UserError("trim: expected texts, got none")
  tokenizer, kept = model.tokenizer.trimmed(texts)
  config = dataclasses.replace(model.config, vocab_size=len(kept))
  task = model.task.bind(config, tokenizer)

  def rows(path: str, x):
    if not vocabulary.has_rows(path):
      return x
    array = np.asarray(x)[kept]
    return jnp.asarray(vocabulary.with_rows(path, array, config.vocab_rows))

  params = trees.map_with_path(rows, model.params)
  return Model(task, params, model.batch_size, model.mesh)


def texts(task: Task, record: Record) -> Iterator[str]:
  """The texts of a record that a task encodes, with and without its prompts."""
  for part in task.parts.values() or [task]:
    inputs = part.inputs
    names = [*inputs.FIELDS, *inputs.PREDICTION]
    if part.writes:
      names += [name for x in part.targets.values() for name in x.FIELDS]
    prompts = ["", getattr(inputs, "prompt", "")]
    prompts += getattr(inputs, "prompts", {}).values()
    for name in dict.fromkeys(names):
      for text in _strings(record.get(name)):
        for prompt in dict.fromkeys(prompts):
          yield prompt + text
          if getattr(inputs, "lower_case", False):
            yield (prompt + text).lower()


def _strings(value: Any) -> Iterator[str]:
  if isinstance(value, str):
    yield value
  elif isinstance(value, list | tuple):
    # Each for itself, and as the words of a text.
    for item in value:
      yield from _strings(item)
    if all(isinstance(item, str) for item in value):
      yield " ".join(value)
