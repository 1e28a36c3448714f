"""From text to answers, by the path that training takes."""

import dataclasses
import functools
import pathlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import jax
import numpy as np
from jaxtyping import Float

from bert_jax import settings
from bert_jax.data.sources.labelled import Record
from bert_jax.interop import huggingface
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths
from bert_jax.tasks import answering, embedding
from bert_jax.tasks.ensembles import Ensemble
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.training import opening, workdir
from bert_jax.types import Batch, Parameters

_Write = Callable[[Task, Parameters, pathlib.Path], None]
# What writes a model to an empty folder, and the file that makes it a model's,
# by the name of the format.
_FORMATS: Mapping[str, tuple[_Write, str]] = {
  "huggingface": (huggingface.save, huggingface.CONFIG_FILE),
  "bert_jax": (workdir.save, workdir.MODEL_FILE),
}


class InputError(UserError):
  """One of the inputs is none that the task can answer.

  Attributes:
    number: which, from 1.
    reason: why.
  """

  def __init__(self, number: int, reason: str):
    super().__init__(f"input {number}: {reason}")
    self.number, self.reason = number, reason


@dataclasses.dataclass(frozen=True)
class Predictor:
  """A trained model with all that it takes to use it on text.

  Attributes:
    task: prepares texts and words answers; knows tokenizer and model.
    params: the trained parameters.
    batch_size: rows that go through the model at once, at most.
  """

  task: Task
  params: Parameters
  batch_size: int = 32

  @classmethod
  def load(
    cls, where: paths.Path, task: str | None = None, **options: Any
  ) -> Self:
    """See `bert_jax.load`."""
    pretrained = opening.open_model(where)
    if task in pretrained.parts:
      pretrained, task = pretrained.part(task), None
    made = pretrained.make_task(task)
    params, fresh = pretrained.params(made)
    if fresh:
      warnings.warn(
        f"{where} has no {', '.join(fresh)} for the task {made.name}: its"
        " values are random, and so are the answers, until it is trained",
        stacklevel=3,
      )
    return cls(made, params, **options)

  @property
  def tokenizer(self) -> Tokenizer | None:
    """Text to ids; None where the model came without a vocabulary."""
    return self.task.tokenizer

  def __call__(
    self, texts: str | Sequence[str | Record], **options: Any
  ) -> Any:
    """Answers for texts.

    Args:
      texts: one text or record, or a list of them; a record is a mapping with
        the fields that the task takes, a text one with the field `text`.
      **options: what the task's `answer` takes, such as `top_k`.

    Returns:
      The task's answer for a single text; a list of them for a list.

    Raises:
      InputError: a text is not one that the task can answer.
    """
    if isinstance(texts, str | Mapping):
      return self([texts], **options)[0]
    records = [_record(item, number) for number, item in enumerate(texts, 1)]
    prepared = [
      _prepare(self.task, record, number)
      for number, record in enumerate(records, 1)
    ]
    return answering.answers(
      self.task,
      records,
      prepared,
      functools.partial(self._apply, self.params),
      self.batch_size,
      **options,
    )

  def embed(
    self, texts: str | Sequence[str], **changes: Any
  ) -> Float[np.ndarray, "*texts width"]:
    """Vectors for texts, whatever the head is for.

    Args:
      texts: one text, or a list of them.
      **changes: to the settings that the model came with, fields of
        `tasks.embedding.Head`: `pooling`, `normalize`, `max_length`.

    Returns:
      float32 [width] for a single text, [texts, width] for a list.

    Raises:
      InputError: a text is no text.
      UserError: a setting is unknown, or there are several models.
    """
    if isinstance(self.task.model, Ensemble):
      raise UserError(
        "an ensemble is several models, each with vectors of its own; embed"
        " with one of them, or with a soup"
      )
    if isinstance(texts, str):
      return self.embed([texts], **changes)[0]
    is_own = self.task.name == "embedding"
    fields = dataclasses.asdict(self.task.head if is_own else embedding.Head())
    head = settings.from_dict(embedding.Head, fields | changes, "embed")
    vectors = self._embedder(head)(texts)
    if not vectors:
      return np.zeros((0, self.task.config.hidden_size), np.float32)
    return np.stack(vectors)

  @functools.cached_property
  def _embedder(self) -> Callable[[embedding.Head], "Predictor"]:
    @functools.cache
    def make(head: embedding.Head) -> Predictor:
      task = embedding.make(self.task.config, self.tokenizer, head)
      return Predictor(task, self.params, self.batch_size)

    return make

  @functools.cached_property
  def _apply(self):
    def apply(params: Parameters, batch: Batch):
      return self.task.model.apply({"params": params}, batch)

    return jax.jit(apply)


def load(
  where: paths.Path, task: str | None = None, **options: Any
) -> Predictor:
  """Loads a model.

  Warns where the task's head is not among the weights.

  Args:
    where: the `--workdir` of a training run; a Hugging Face folder, or
      `hf://org/name[@revision]`; a BERT release of Google's, a folder or zip.
      All but `hf://` may be in an object store, `gs://...` or `s3://...`.
    task: a name in `bert_jax.tasks.TASKS`, by default the one that the
      model's head is for.
    **options: further fields of `Predictor`.

  Returns:
    A predictor; of a run, with the best checkpoint that verifies, or else the
    newest.

  Raises:
    UserError: there is no such model, or it is damaged or not supported.
  """
  return Predictor.load(where, task, **options)


def save(
  predictor: Predictor,
  folder: paths.Path,
  format: str = "huggingface",
) -> None:
  """Saves a model for others to load; there is all of it or nothing.

  Args:
    predictor: the model.
    folder: a new or an empty one, here or in an object store.
    format: `huggingface`, which Transformers (and sentence-transformers, for
      the task embedding) opens with the same outputs; or `bert_jax`.

  Raises:
    UserError: the folder is not empty, the format has no such model, or the
      folder cannot be written; or there are several models.
  """
  if isinstance(predictor.task.model, Ensemble):
    raise UserError(
      "an ensemble is several models, which no format holds in one folder;"
      " save each of them, or a soup"
    )
  write, marker = settings.choice("format", format, _FORMATS)
  folder = paths.as_path(folder)
  if paths.exists(folder) and (
    not paths.is_folder(folder) or paths.list_names(folder, None)
  ):
    raise UserError(f"{folder}: there is something; name a new folder")
  try:
    with folders.atomic_folder(folder, last=marker) as here:
      write(predictor.task, predictor.params, here)
  except OSError as error:
    raise UserError(f"cannot write {folder}: {error}") from error


def _record(item: Any, number: int) -> Record:
  record = {"text": item} if isinstance(item, str) else item
  if not isinstance(record, Mapping):
    raise InputError(number, f"expected a text or a record, got {item!r:.80}")
  return record


def _prepare(task: Task, record: Record, number: int) -> list[Batch]:
  try:
    return task.prepare(record)
  except UserError as error:
    raise InputError(number, str(error)) from error
