"""A model's answers to labelled records, and what they are worth."""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from bert_jax import settings
from bert_jax.data.sources.labelled import Record
from bert_jax.predictor import Predictor
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.tasks import TASKS, answering, embedding, mixed, supervised
from bert_jax.tasks.common import values
from bert_jax.tasks.task import Task
from bert_jax.training import workdir
from bert_jax.types import Batch, Parameters


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """What a model said to records, and how good that is.

  Attributes:
    task: the model's.
    data: where the records came from.
    records: with their gold fields.
    answers: to each of them.
    skipped: what is wrong with each row that was left out.
    scores: measures by name, as training has them.
    baselines: what the best constant answer scores, by the measures' names
      and what it is.
  """

  task: Task
  data: supervised.Data
  records: Sequence[Record]
  answers: Sequence[Any]
  skipped: Sequence[str]
  scores: Mapping[str, float]
  baselines: Mapping[str, float]


class Source(NamedTuple):
  """Where labelled records are, and which fields they have."""

  data: supervised.Data
  fields: supervised.Fields


def labelled(
  where: paths.Path,
  task: Task,
  files: str,
  part: str | None = None,
  **changes: Any,
) -> Source:
  """Records to be read as a model's own were, in training.

  Args:
    where: the model: of a run, its `config.data` says how.
    task: the model's, or what it is asked to do.
    files: in the place of `config.data.eval`.
    part: the name of the task among those of the run, if they are several.
    **changes: to the fields of the task's `Data`; None leaves one as it is.

  Raises:
    UserError: the task is none of labelled records, or a field is wrong.
  """
  module, section = _module(task), _section(where, task, part)
  changes = {name: x for name, x in changes.items() if x is not None}
  if changes.get("format", "tfds") != "tfds":
    changes.setdefault("dataset", "")
  given = {**section, "train": (), "eval": files, **changes}
  data = settings.from_dict(module.Data, given, "config.data")
  fields = module.FIELDS
  if section and task.name == "embedding":
    # Those of what it has learned, whatever else the file has.
    fields = embedding.OBJECTIVES[data.objective]
  return Source(data, fields)


def evaluate(predictor: Predictor, given: Source) -> Evaluation:
  """Measures a model, with the thresholds that it was tuned to.

  Args:
    predictor: the model.
    given: the records.

  Raises:
    UserError: they cannot be read, or are not for the model's task.
  """
  task = predictor.task
  found = supervised.read_split(given.data, given.fields, "eval")
  found, prepared = found.each(functools.partial(_prepare, task))
  records = [row.record for row in found.rows]

  @jax.jit
  def forward(params: Parameters, batch: Batch) -> Any:
    return task.model.apply({"params": params}, batch)

  answers = answering.answers(
    task,
    records,
    prepared,
    functools.partial(forward, predictor.params),
    predictor.batch_size,
    **task.scoring,
  )
  scores = task.score(task.head, answers, records)
  return Evaluation(
    task,
    given.data,
    records,
    answers,
    found.skipped,
    scores,
    task.baselines(records),
  )


def _module(task: Task) -> Any:
  if task.parts:
    raise UserError(
      f"the model is for several tasks; choose one of {', '.join(task.parts)}"
      " with --task"
    )
  if task.name not in mixed.PARTS:
    raise UserError(
      f"the task {task.name} is none of labelled records; those are"
      f" {', '.join(mixed.PARTS)}"
    )
  return TASKS[task.name]


def _section(where: paths.Path, task: Task, part: str | None) -> dict[str, Any]:
  """The section `config.data` of the run that trained a task; empty else."""
  if not workdir.is_run(where):
    return {}
  path = paths.as_path(where) / workdir.MODEL_FILE
  run = json.loads(paths.read_bytes(path))["run"]
  if run is None:
    return {}
  name, section = run["config"]["task"], dict(run["config"]["data"])
  if name == "mixed" and part in section["tasks"]:
    section = dict(section["tasks"][part])
    name = section.pop("task")
  return section if name == task.name else {}


def _prepare(task: Task, record: Record) -> list[Batch]:
  if task.name == "regression":
    # Preparing takes records without values too, to predict them.
    values.of(task.head.labels, record)
  return task.prepare(record)
