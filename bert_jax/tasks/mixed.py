"""Several tasks on one encoder, each with a head of its own.

Liu et al. 2019 (MT-DNN, arXiv:1901.11504): each batch is of one task, drawn
in proportion to the task's size to the power of 1/temperature. The parameters
are those of the shared `encoder`, and under each task's name those of its
head. A record says by its field `task` which one it is for.

The targets of a batch are those of its task, under the task's name:
`sst2/labels`; there always is `sst2/task`, of no meaning but its name. A head
that a batch is not for gets gradients of zero, and Adam's moments still move
it a little.
"""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bert_jax import settings
from bert_jax.data import grouping
from bert_jax.data.sources.labelled import Record
from bert_jax.models.config import EncoderConfig
from bert_jax.settings import UserError
from bert_jax.tasks import (
  classification,
  dialogue,
  embedding,
  multi_label,
  multiple_choice,
  question_answering,
  regression,
  tagging,
)
from bert_jax.tasks.common import sharing
from bert_jax.tasks.task import Task
from bert_jax.text.tokenizer import Tokenizer
from bert_jax.types import Batch, Mean

PARTS = {
  "classification": classification,
  "dialogue": dialogue,
  "embedding": embedding,
  "multi_label": multi_label,
  "multiple_choice": multiple_choice,
  "question_answering": question_answering,
  "regression": regression,
  "tagging": tagging,
}
"""The tasks that can share an encoder."""


@dataclasses.dataclass(frozen=True)
class Head:
  """What makes the heads.

  Attributes:
    tasks: by the name of each part, its `task` and that task's `head`.
  """

  tasks: Mapping[str, Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Data:
  """The section `config.data`.

  Attributes:
    tasks: by a name of the user's for each part, its `task` and the fields of
      that task's `Data`.
    temperature: 1 samples tasks by their size; the higher, the more alike.
    tokenizer: the folder of a vocabulary, where `config.init` names none.
  """

  tasks: Mapping[str, Mapping[str, Any]]
  temperature: float = 1.0
  tokenizer: str | None = None

  def __post_init__(self):
    if not self.tasks:
      raise ValueError("tasks: expected at least one, got none")
    if not self.temperature > 0:
      raise ValueError(f"temperature: expected above 0, got {self.temperature}")
    for name in self.tasks:
      if "/" in name or name in (sharing.ENCODER, "mean"):
        raise ValueError(f"tasks.{name}: a task cannot have this name")
      _, part = self.part(name)
      if part.augmentation.model:
        raise ValueError(
          f"tasks.{name}.augmentation.model: only a task by itself can be"
          " augmented by a model; use dropout or swap"
        )

  def part(self, name: str) -> tuple[Any, Any]:
    """The module of a task and its data.

    Raises:
      ValueError: they are not of a task that can be a part.
    """
    where = f"config.data.tasks.{name}"
    if not isinstance(self.tasks[name], Mapping):
      raise ValueError(
        f"tasks.{name}: expected a section, got {self.tasks[name]!r}"
      )
    section = dict(self.tasks[name])
    task = section.pop("task", "")
    module = settings.choice(f"{where}.task", task, PARTS)
    return module, settings.from_dict(module.Data, section, where)


def load_tokenizer(data: Data) -> Tokenizer | None:
  """The vocabulary that the data name; that of `config.init` has none."""
  return classification.load_tokenizer(data)


def make(
  config: EncoderConfig,
  tokenizer: Tokenizer | None,
  head: Head | None = None,
  data: Data | None = None,
  seed: int = 0,
) -> Task:
  """Makes the task.

  Args:
    config: the encoder's.
    tokenizer: None where only ids go in.
    head: the parts; with data, those of the heads to go on from.
    data: what to learn from; None to predict only.
    seed: of the order of tasks.

  Raises:
    UserError: there are no parts, or the data of one cannot be read.
  """
  if data is None and head is None:
    raise UserError("the task mixed is made by its heads; this model has none")
  parts = {
    name: _make_part(config, tokenizer, name, head, data, seed)
    for name in (data.tasks if data else head.tasks)
  }
  first = next(iter(parts))
  task = Task(
    name="mixed",
    config=config,
    tokenizer=tokenizer,
    model=sharing.MixedModel(
      {name: part.model for name, part in parts.items()},
      {name: part.blank for name, part in parts.items()},
    ),
    blank=sharing.mark(first, parts[first].blank),
    loss=functools.partial(_means, parts, "loss"),
    metrics=functools.partial(_means, parts, "metrics"),
    prepare=functools.partial(prepare, parts),
    answer=functools.partial(answer, parts),
    join=functools.partial(_join, parts),
    axes=grouping.Axes(
      *(
        frozenset(
          f"{name}/{target}"
          for name, part in parts.items()
          for target in getattr(part.axes, kind)
        )
        for kind in grouping.Axes._fields
      )
    ),
    score=functools.partial(score, parts),
    scoring={"as_scored": True},
    tune=functools.partial(_tune, parts),
    head=_head({name: (p.name, p.head) for name, p in parts.items()}),
    parts=parts,
  )
  if data is None:
    return task
  return dataclasses.replace(
    task, data=sharing.training_data(parts, data.temperature)
  )


def _make_part(
  config: EncoderConfig,
  tokenizer: Tokenizer | None,
  name: str,
  head: Head | None,
  data: Data | None,
  seed: int,
) -> Task:
  known = head.tasks.get(name) if head else None
  module, part_data = data.part(name) if data else (None, None)
  part_head = None
  if known is not None:
    where = f"the head {name}"
    of = settings.choice(where, known["task"], PARTS)
    module = module or of
    if module is of and known["head"] is not None:
      part_head = settings.from_dict(of.Head, known["head"], where)
  try:
    return module.make(config, tokenizer, part_head, data=part_data, seed=seed)
  except UserError as error:
    # The part knows only that these are its data.
    message = str(error).replace("config.data.", f"config.data.tasks.{name}.")
    raise UserError(message) from error


def _head(heads: Mapping[str, tuple[str, Any]]) -> Head:
  return Head(
    {
      name: {"task": task, "head": head and dataclasses.asdict(head)}
      for name, (task, head) in heads.items()
    }
  )


def _means(
  parts: Mapping[str, Task], kind: str, outputs: Any, batch: Batch
) -> dict[str, Mean]:
  """The losses or metrics of the task that the batch is of."""
  name, own = sharing.unmark(batch)
  found = getattr(parts[name], kind)(outputs, own)
  return {f"{name}/{key}": mean for key, mean in found.items()}


def prepare(parts: Mapping[str, Task], record: Record) -> list[Batch]:
  """Prepares a record as the task that its field `task` names.

  Raises:
    UserError: there is no such task, or it refuses the record.
  """
  name = str(record.get("task", ""))
  settings.choice("task", name, parts)
  return [sharing.mark(name, made) for made in parts[name].prepare(record)]


class _Answered(NamedTuple):
  name: str
  answer: Any


def answer(
  parts: Mapping[str, Task],
  outputs: Any,
  batch: Batch,
  records: Sequence[Record],
  as_scored: bool = False,
) -> Sequence[_Answered]:
  """The answers of the task that the batch is of.

  Args:
    parts: the tasks.
    outputs: the model's.
    batch: what they are for.
    records: of its rows.
    as_scored: whether answers are for `score`.
  """
  name, own = sharing.unmark(batch)
  part = parts[name]
  options = part.scoring if as_scored else {}
  return [
    _Answered(name, found)
    for found in part.answer(outputs, own, records, **options)
  ]


def _join(parts: Mapping[str, Task], answers: Sequence[_Answered]) -> Any:
  return parts[answers[0].name].join([found.answer for found in answers])


def score(
  parts: Mapping[str, Task],
  head: Head,
  answers: Sequence[Any],
  records: Sequence[Record],
) -> dict[str, float]:
  """The scores of every task, `NAME/SCORE`, and their `mean`.

  The mean is that of the first score of each task.
  """
  scores, firsts = {}, []
  for name, part in parts.items():
    own, asked = sharing.of_task(name, answers, records)
    if not asked:
      continue
    kept = head.tasks[name]["head"]
    part_head = kept and settings.from_dict(type(part.head), kept)
    found = part.score(part_head, own, asked)
    firsts.append(next(iter(found.values())))
    scores |= {f"{name}/{key}": value for key, value in found.items()}
  return {"mean": float(np.mean(firsts)), **scores}


def _tune(
  parts: Mapping[str, Task], answers: Sequence[Any], records: Sequence[Record]
) -> Head:
  heads = {}
  for name, part in parts.items():
    own, asked = sharing.of_task(name, answers, records)
    tuned = part.tune(own, asked) if part.tune and asked else part.head
    heads[name] = (part.name, tuned)
  return _head(heads)
