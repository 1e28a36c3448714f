"""The files of an evaluation."""

import dataclasses
import io
import json
from collections.abc import Mapping
from typing import Any

from bert_jax.data.records import RecordsConfig
from bert_jax.evaluation import page
from bert_jax.evaluation.evaluate import Evaluation
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths
from bert_jax.tasks.targets.target import to_json
from bert_jax.training import report

METRICS_FILE = "evaluation.json"
ANSWERS_FILE = "predictions.jsonl"
PAGE_FILE = "evaluation.html"


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
    "metrics": evaluation.metrics,
    "baselines": evaluation.baselines,
    "tables": view.tables,
  }
  if view.confusion is not None:
    contents["confusion_matrix"] = {
      "labels": list(view.confusion.labels),
      "counts": view.confusion.counts.tolist(),
    }
  answers = "".join(
    json.dumps(
      {**record, "answer": task.summary(record, prediction)},
      default=to_json,
      ensure_ascii=False,
    )
    + "\n"
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
  if unseen := evaluation.task.unseen(evaluation.records):
    facts["unknown labels"] = "; ".join(unseen)
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
