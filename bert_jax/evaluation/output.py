"""The files of an evaluation."""

import dataclasses
import io
import json
from collections.abc import Mapping
from typing import Any

from bert_jax.data.records import RecordsConfig
from bert_jax.evaluation import page, pair_views, views
from bert_jax.evaluation.measuring import Evaluation
from bert_jax.settings import UserError
from bert_jax.storage import folders, paths
from bert_jax.tasks import answering, question_answering
from bert_jax.training import report

SCORES_FILE = "evaluation.json"
ANSWERS_FILE = "predictions.jsonl"
SQUAD_FILE = "predictions.json"
PAGE_FILE = "evaluation.html"


def write(evaluation: Evaluation, folder: paths.Path, model: str) -> list[Any]:
  """Writes scores, answers and a page.

  Args:
    evaluation: what to write.
    folder: here or in a store; made if it is not there; files of an
      evaluation before are replaced.
    model: what to call the model by; where it is the folder of a run, its
      curves are on the page.

  Returns:
    The paths of `evaluation.json`; `predictions.jsonl`, each record with its
    answer; of question answering also `predictions.json`, as SQuAD's official
    scorers take it; and `evaluation.html`.

  Raises:
    OSError: a file cannot be written.
  """
  view = views.view(evaluation)
  contents = {"model": model, "task": evaluation.task.name}
  contents["data"] = _data(evaluation)
  contents |= {
    "records": len(evaluation.records),
    "skipped": list(evaluation.skipped),
    "scores": evaluation.scores,
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
      {**record, "answer": answer}, default=answering.plain, ensure_ascii=False
    )
    + "\n"
    for record, answer in zip(evaluation.records, _answers(evaluation))
  )
  files = {ANSWERS_FILE: answers}
  if evaluation.task.name == "question_answering":
    texts = question_answering.predictions(
      evaluation.task.head, evaluation.answers, evaluation.records
    )
    files[SQUAD_FILE] = json.dumps(texts, ensure_ascii=False) + "\n"
  files[PAGE_FILE] = page.render(
    f"{model}: {evaluation.task.name}",
    _facts(evaluation),
    evaluation.scores,
    evaluation.baselines,
    view,
    evaluation.skipped,
    _curves(model),
  )
  files[SCORES_FILE] = json.dumps(contents, indent=2) + "\n"
  with paths.staged_folder(folder) as here:
    here.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
      folders.write_text(here / name, text)
  return [paths.as_path(folder) / name for name in reversed(files)]


def _data(evaluation: Evaluation) -> dict[str, Any]:
  """How the records were read, by the keys of `config.data`."""
  names = (field.name for field in dataclasses.fields(RecordsConfig))
  return {
    name: getattr(evaluation.data, name) for name in names if name != "train"
  }


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
  if evaluation.skipped:
    facts["left out"] = f"{len(evaluation.skipped):,} rows; see below"
  return facts


def _answers(evaluation: Evaluation) -> list[Any]:
  """What to write of each answer: of two vectors, how alike they are."""
  if evaluation.task.name != "embedding":
    return list(evaluation.answers)
  cosines = pair_views.cosine(evaluation.answers)
  return [{"cosine": float(cosine)} for cosine in cosines]


def _curves(model: str) -> bytes | None:
  """A PNG of a run's curves, if this is a run that has any."""
  file = io.BytesIO()
  try:
    report.draw(paths.as_path(model), file)
  except UserError:
    return None
  return file.getvalue()
