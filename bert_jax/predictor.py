"""From text to answers, by the path that training takes."""

import dataclasses
import functools
import itertools
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
        fields that the task takes; a text is a record with the field `text`).
      **options: what the task's `answer` takes, such as `top_k`.

    Returns:
      The task's answer for a single text; a list of them for a list.

    Raises:
      UserError: a text is not one that the task can answer.
    """
    if isinstance(texts, str):
      return self([texts], **options)[0]
    records = [_record(item, number) for number, item in enumerate(texts, 1)]
    prepared = [
      _prepare(self.task, record, number)
      for number, record in enumerate(records, 1)
    ]
    rows = [(n, example) for n, made in enumerate(prepared) for example in made]
    # Rows of about one length together, so that little is padding.
    order = sorted(range(len(rows)), key=lambda i: -rows[i][1].token_ids.size)
    answers: list[Any] = [None] * len(rows)
    for start in range(0, len(rows), self.batch_size):
      chunk = order[start : start + self.batch_size]
      batch = pad([rows[i][1] for i in chunk])
      outputs = self._apply(self.params, batch)
      given = [records[rows[i][0]] for i in chunk]
      answered = self.task.answer(outputs, batch, given, **options)
      for i, answer in zip(chunk, answered):
        answers[i] = answer
    found = iter(answers)
    return [
      self.task.join(list(itertools.islice(found, len(made))))
      for made in prepared
    ]

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


def _record(item: Any, number: int) -> Record:
  record = {"text": item} if isinstance(item, str) else item
  if not isinstance(record, Mapping):
    raise UserError(
      f"input {number}: expected a text or a record, got {item!r:.80}"
    )
  return record


def _prepare(task: Task, record: Record, number: int) -> list[Batch]:
  try:
    return task.prepare(record)
  except UserError as error:
    raise UserError(f"input {number}: {error}") from error
