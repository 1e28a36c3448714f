"""A model's predictions for labelled records, their metrics and files."""

import dataclasses
import functools
import io
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax

from bert_jax import predictor, settings, tasks
from bert_jax.data import grouping
from bert_jax.data.records import RecordsConfig
from bert_jax.data.sources.labelled import Record
from bert_jax.evaluation import page
from bert_jax.model import Model
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths
from bert_jax.tasks import labelled, multi_task
from bert_jax.tasks.inputs.rows import UnknownTokens
from bert_jax.tasks.labelled import LabelledConfig
from bert_jax.tasks.metrics import texts
from bert_jax.tasks.targets.target import json_line
from bert_jax.tasks.task import Prediction, Task
from bert_jax.training import report, workdir
from bert_jax.types import Batch, Parameters

METRICS_FILE = "evaluation.json"
ANSWERS_FILE = "predictions.jsonl"
PAGE_FILE = "evaluation.html"


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluation:
  """A model's predictions for labelled records, and their metrics.

  Attributes:
    task: the model's.
    data: where the records came from.
    records: with their gold fields.
    predictions: for each of them, arrays by target.
    skipped: what is wrong with each row that was left out.
    notes: lines for the user about rows that are left out or changed.
    metrics: by name, as in training.
    baselines: the metrics of the best constant answer, by the metrics' names
      and its kind.
    options: of the predictions, other than the task's own of evaluations.
  """

  task: Task
  data: LabelledConfig
  records: Sequence[Record]
  predictions: Sequence[Prediction]
  skipped: Sequence[str]
  notes: Sequence[str]
  metrics: Mapping[str, float]
  baselines: Mapping[str, float]
  options: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def unseen(self) -> Sequence[str]:
    """Lines for the user about gold labels that the model does not know."""
    return self.task.unseen(self.records)


class Source(NamedTuple):
  """Where labelled records are, and which further fields they may have."""

  data: LabelledConfig
  also: tuple[str, ...] = ()


def source(
  where: paths.Path,
  task: Task,
  files: str,
  part: str | None = None,
  **changes: Any,
) -> Source:
  """Records to be read as a model's own were in training.

  Args:
    where: the model: of a run, its `config.data` says how.
    task: the model's, or the one that it is evaluated on.
    files: replaces `config.data.eval`.
    part: the name of the task among those of the run, if they are several.
    **changes: to the fields of the task's `config.data`; None leaves one as
      it is.

  Raises:
    UserError: the task does not learn from labelled records, or a field is
      wrong.
  """
  if task.parts:
    raise UserError(
      f"the model is for several tasks; choose one of {', '.join(task.parts)}"
      " with --task"
    )
  if task.name not in tasks.LABELLED:
    raise UserError(
      f"the task {task.name} does not learn from labelled records; those that"
      f" do are {', '.join(tasks.LABELLED)}"
    )
  section = _section(where, task, part)
  changes = {name: x for name, x in changes.items() if x is not None}
  if changes.get("format", "tfds") != "tfds":
    changes.setdefault("dataset", "")
  given = {**section, "train": (), "eval": files, **changes}
  cls = tasks.LABELLED[task.name]
  data = settings.from_dict(cls, given, "config.data")
  if section:
    return Source(data)
  also = (name for x in task.targets.values() for name in x.EVALUATED)
  return Source(data, tuple(also))


def evaluate(model: Model, given: Source, **options: Any) -> Evaluation:
  """Evaluates a model, with the thresholds that it was tuned to.

  A model that writes writes a text for each record, and is measured on the gold
  texts too, as in training.

  Args:
    model: the model.
    given: the records.
    **options: of predictions, such as `num_beams`.

  Raises:
    UserError: they cannot be read, or are not for the model's task, or an
      option is wrong.
  """
  task = model.task
  task.check_options(options)
  if task.writes:
    texts.check_installed()
  found = labelled.read_split(given.data, task, "eval", given.also)
  # So that a record that does not fit is reported with its file and line.
  found, examples = found.each(
    lambda record: task.preprocess(record, labelled=True)
  )
  records = [row.record for row in found.rows]
  unknown = UnknownTokens(task.tokenizer)
  unknown.add(itertools.chain.from_iterable(examples))
  known, baselines = {}, task.baselines(records)
  if task.writes:
    known = _likelihood(model, records, examples)
    gold = itertools.chain.from_iterable(examples)
    baselines |= task.corpus_baselines(gold)
    examples = [task.preprocess(record, labelled=False) for record in records]
  predictions = model.predict_examples(
    records, examples, **{**task.evaluation_options, **options}
  )
  return Evaluation(
    task,
    given.data,
    records,
    predictions,
    found.skipped,
    (*found.notes, *unknown.notes("config.data.eval")),
    {**task.evaluate(records, predictions), **known},
    baselines,
    options,
  )


def _likelihood(
  model: Model, records: Sequence[Record], examples: Sequence[list[Batch]]
) -> dict[str, float]:
  """The metrics of the gold texts, token by token."""
  task = model.task

  @jax.jit
  def measured(params: Parameters, batch: Batch) -> Any:
    return task.measured(task.module.apply({"params": params}, batch), batch)

  predictions = predictor.predict(
    task,
    functools.partial(measured, model.in_float32().params),
    records,
    examples,
    model.batch_size,
    grouping.LENGTH_BUCKETS,
  )
  return task.evaluate(records, predictions)


def _section(where: paths.Path, task: Task, part: str | None) -> dict[str, Any]:
  """The section `config.data` of the run that trained a task; empty else."""
  config = workdir.run_config(where)
  if not config:
    return {}
  name, section = config["task"], dict(config["data"])
  if name == multi_task.NAME and part in section["tasks"]:
    section = dict(section["tasks"][part])
    name = section.pop("task")
  return section if name == task.name else {}


def write(evaluation: Evaluation, folder: paths.Path, model: str) -> list[Any]:
  """Writes metrics, predictions and a page.

  Args:
    evaluation: of the model.
    folder: here or in an object store; made if it is not there; files of an
      earlier evaluation are replaced.
    model: the model's name; where it is the folder of a run, its curves are on
      the page.

  Returns:
    The paths of `evaluation.json`; `predictions.jsonl`, each record with its
    answer; further files of the targets, such as SQuAD's `predictions.json`;
    and `evaluation.html`.

  Raises:
    OSError: a file cannot be written.
  """
  task, records = evaluation.task, evaluation.records
  predictions = evaluation.predictions
  view = task.view(records, predictions)
  names = (field.name for field in dataclasses.fields(RecordsConfig))
  contents = {
    "model": model,
    "task": task.name,
    "data": {
      name: getattr(evaluation.data, name) for name in names if name != "train"
    },
    "records": len(records),
    "skipped": list(evaluation.skipped),
    "notes": list(evaluation.notes),
    "metrics": evaluation.metrics,
    "baselines": evaluation.baselines,
    "options": dict(evaluation.options),
    "facts": view.facts,
    "tables": view.tables,
  }
  if view.confusion is not None:
    contents["confusion_matrix"] = {
      "labels": list(view.confusion.labels),
      "counts": view.confusion.counts.tolist(),
    }
  answers = "".join(
    json_line({**record, "answer": task.summary(record, prediction)}) + "\n"
    for record, prediction in zip(records, predictions)
  )
  files = {ANSWERS_FILE: answers, **task.files(records, predictions)}
  files[PAGE_FILE] = page.render(
    f"{model}: {task.name}",
    _facts(evaluation),
    evaluation.metrics,
    evaluation.baselines,
    view,
    evaluation.skipped,
    _curves(model),
  )
  files[METRICS_FILE] = json.dumps(contents, indent=2) + "\n"
  with paths.staged_folder(folder) as here:
    here.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
      folders.write_text(here / name, text)
  return [paths.as_path(folder) / name for name in reversed(files)]


def _facts(evaluation: Evaluation) -> Mapping[str, Any]:
  data, config = evaluation.data, evaluation.task.config
  source = f"{data.dataset}: " if data.dataset else ""
  facts = {
    "data": source + ", ".join(data.eval),
    "records": f"{len(evaluation.records):,}",
    "encoder": (
      f"{config.family}, {config.num_layers} layers of {config.hidden_size}"
    ),
  }
  if evaluation.options:
    pairs = (f"{name}={x}" for name, x in evaluation.options.items())
    facts["options"] = ", ".join(pairs)
  if evaluation.unseen:
    facts["unknown labels"] = "; ".join(evaluation.unseen)
  if evaluation.skipped:
    facts["left out"] = f"{len(evaluation.skipped):,} rows; see below"
  return facts


def _curves(model: str) -> bytes | None:
  """A PNG of a run's curves, if this is a run that has any."""
  file = io.BytesIO()
  try:
    report.draw(paths.as_path(model), file)
  except UserError:
    return None
  return file.getvalue()
