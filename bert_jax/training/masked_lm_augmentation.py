"""A masked language model that proposes words, for augmentation."""

from collections.abc import Sequence

from bert_jax.data.augmentation import MaskedLanguageModel
from bert_jax.settings import UserError
from bert_jax.tasks import MASKED_LM
from bert_jax.training import inference, workdir

_CANDIDATES = 10
_BATCH_SIZE = 64


def open_model(where: str) -> MaskedLanguageModel:
  """Opens a model to propose words with.

  Args:
    where: what `bert_jax.load` takes, with a masked-LM head.

  Raises:
    UserError: there is no such model, or it has no masked-LM head.
  """
  try:
    pretrained = workdir.open_model(where)
  except UserError as error:
    raise UserError(f"config.data.augmentation.model: {error}") from error
  task = MASKED_LM.bind(pretrained.config, pretrained.tokenizer)
  params, newly_initialized = pretrained.params(task)
  if newly_initialized:
    raise UserError(
      f"config.data.augmentation.model: {where} has no masked-LM head"
    )
  forward = inference.make_forward(task, params)

  def words(texts: Sequence[str]) -> list[list[list[str]]]:
    found: list[list[list[str]]] = [[] for _ in texts]
    records, examples, kept = [], [], []
    for number, text in enumerate(texts):
      try:
        made = task.preprocess({"text": text})
      except UserError:  # Longer than the model takes: it stays as it is.
        continue
      records.append({"text": text})
      examples.append(made)
      kept.append(number)
    predictions = inference.predict(
      task, forward, records, examples, _BATCH_SIZE, top_k=_CANDIDATES
    )
    for number, record, prediction in zip(kept, records, predictions):
      found[number] = [
        [c.token for c in candidates if _is_word(c.token)]
        for candidates in task.decode(record, prediction)
      ]
    return found

  tokenizer = task.tokenizer
  return MaskedLanguageModel(tokenizer.token(tokenizer.special.mask), words)


def _is_word(token: str) -> bool:
  return token.strip().isalpha()
