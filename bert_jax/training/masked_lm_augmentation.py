"""A masked language model that proposes words, for augmentation."""

import functools
from collections.abc import Sequence

import jax

from bert_jax.data.augmentation import MaskedLanguageModel
from bert_jax.settings import UserError
from bert_jax.tasks import answering
from bert_jax.training import opening
from bert_jax.types import Batch

_CANDIDATES = 10
_BATCH_SIZE = 64


def open_model(where: str) -> MaskedLanguageModel:
  """Opens a model to propose words with.

  Args:
    where: what `opening.open_model` takes, with a masked-LM head.

  Raises:
    UserError: there is no such model, or it has no masked-LM head.
  """
  try:
    pretrained = opening.open_model(where)
  except UserError as error:
    raise UserError(f"config.data.augmentation.model: {error}") from error
  task = pretrained.make_task("masked_lm")
  params, fresh = pretrained.params(task)
  if fresh:
    raise UserError(
      f"config.data.augmentation.model: {where} has no masked-LM head"
    )

  @jax.jit
  def apply(params, batch: Batch):
    return task.model.apply({"params": params}, batch)

  def words(texts: Sequence[str]) -> list[list[list[str]]]:
    found: list[list[list[str]]] = [[] for _ in texts]
    records, prepared, kept = [], [], []
    for number, text in enumerate(texts):
      try:
        made = task.prepare({"text": text})
      except UserError:  # Longer than the model takes: it stays as it is.
        continue
      records.append({"text": text})
      prepared.append(made)
      kept.append(number)
    answers = answering.answers(
      task,
      records,
      prepared,
      functools.partial(apply, params),
      _BATCH_SIZE,
      top_k=_CANDIDATES,
    )
    for number, masks in zip(kept, answers):
      found[number] = [
        [c.token for c in candidates if _is_word(c.token)]
        for candidates in masks
      ]
    return found

  tokenizer = task.tokenizer
  return MaskedLanguageModel(tokenizer.token(tokenizer.special.mask), words)


def _is_word(token: str) -> bool:
  return token.strip().isalpha()
