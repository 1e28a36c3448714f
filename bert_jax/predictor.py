"""From text to answers, by the path that training takes."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np

from bert_jax.settings import UserError
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.training import checkpoint
from bert_jax.training import workdir as workdirs
from bert_jax.types import Batch, Parameters, Record


@dataclasses.dataclass(frozen=True)
class Predictor:
  """A trained model with all that it takes to use it on text.

  Attributes:
    tokenizer: text to ids.
    task: prepares texts and words answers.
    params: the trained parameters.
    batch_size: rows that go through the model at once, at most.
  """

  tokenizer: Tokenizer
  task: Task
  params: Parameters
  batch_size: int = 32

  @classmethod
  def load(cls, where: str | pathlib.Path, **options: Any) -> Self:
    """See `bert_jax.load`."""
    folder = pathlib.Path(where)
    recipe, tokenizer = workdirs.read(folder)
    task = recipe.make_task(tokenizer)
    blank = jax.tree.map(lambda x: x[None], task.blank)
    shapes = jax.eval_shape(task.model.init, jax.random.key(0), blank)
    params = checkpoint.restore_params(
      folder / workdirs.CHECKPOINTS, shapes["params"]
    )
    return cls(tokenizer, task, params, **options)

  def __call__(
    self, texts: str | Sequence[str | Record], **options: Any
  ) -> Any:
    """Answers for texts.

    Args:
      texts: one text, or a list of texts or of records (mappings with the
        field `text`).
      **options: what the task's `answer` takes, such as `top_k`.

    Returns:
      The task's answer for a single text; a list of them for a list.

    Raises:
      UserError: a text is not one that the task can answer.
    """
    if isinstance(texts, str):
      return self([texts], **options)[0]
    records = [_record(item, i) for i, item in enumerate(texts)]
    answers = []
    for start in range(0, len(records), self.batch_size):
      chunk = records[start : start + self.batch_size]
      batch = pad([self.task.prepare(record) for record in chunk])
      outputs = self._apply(self.params, batch)
      answers += self.task.answer(outputs, batch, **options)[: len(chunk)]
    return answers

  @functools.cached_property
  def _apply(self):
    def apply(params: Parameters, batch: Batch):
      return self.task.model.apply({"params": params}, batch)

    return jax.jit(apply)


def load(where: str | pathlib.Path, **options: Any) -> Predictor:
  """Loads a trained model.

  Args:
    where: the `--workdir` of a training run.
    **options: further fields of `Predictor`.

  Returns:
    A predictor with the parameters of the newest checkpoint that verifies.

  Raises:
    UserError: there is no such run, or it has no good checkpoint.
  """
  return Predictor.load(where, **options)


def pad(examples: Sequence[Batch]) -> Batch:
  """Stacks unbatched examples of any lengths into one batch.

  Every axis grows to the next power of two, with zeros, so that few shapes
  are compiled. Sequence id 0 and weight 0 make what is added count nothing.
  """
  rows = _bucket(len(examples))

  def stack(*arrays: np.ndarray) -> np.ndarray:
    shape = [_bucket(max(sizes)) for sizes in zip(*(a.shape for a in arrays))]
    stacked = np.zeros((rows, *shape), arrays[0].dtype)
    for row, array in zip(stacked, arrays):
      row[tuple(map(slice, array.shape))] = array
    return stacked

  return jax.tree.map(stack, *examples)


def _bucket(size: int) -> int:
  return 1 << max(size - 1, 0).bit_length()


def _record(item: Any, index: int) -> Record:
  record = {"text": item} if isinstance(item, str) else item
  if not isinstance(record, Mapping) or not isinstance(record.get("text"), str):
    raise UserError(
      f"input {index + 1}: expected a text or a record with the field 'text',"
      f" got {item!r:.80}"
    )
  return record
