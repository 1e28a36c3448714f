import dataclasses
import json

import pytest

import bert_jax
from bert_jax.evaluation.evaluate import evaluate, source, write
from bert_jax.tasks import LABELLED, TASKS
from bert_jax.tasks.multi_task import MultiTask
from tests.errors import user_error
from tests.evaluation import labelled
from tests.evaluation.labelled import RECORDS
from tests.evaluation.reader import Reader
from tests.tasks import cases

# What the mean of several tasks is made of.
FIRST = {
  "classification": "accuracy",
  "dialogue": "sentence_accuracy",
  "embedding": "mrr_at_10",
  "generation": "bleu",
  "multi_label": "micro_f1",
  "multiple_choice": "accuracy",
  "question_answering": "f1",
  "regression": "pearson",
  "tagging": "f1",
}


def write_lines(path, records):
  path.write_text("".join(json.dumps(record) + "\n" for record in records))
  return str(path)


def run(name, path, where="nowhere", **changes):
  model = labelled.model(name)
  return evaluate(model, source(where, model.task, path, **changes))


def test_there_are_records_for_each_task():
  assert RECORDS.keys() == LABELLED.keys()


@pytest.mark.parametrize("name", RECORDS)
def test_metrics_are_those_of_the_answers_that_people_get(name, tmp_path):
  path = write_lines(tmp_path / "eval.jsonl", RECORDS[name])
  found = run(name, path)
  assert list(found.records) == RECORDS[name]
  assert not found.skipped
  model = labelled.model(name)
  options = model.task.evaluation_options
  records, predictions = model.predict(RECORDS[name], **options)
  expected = model.task.evaluate(records, predictions)
  metrics = {name: found.metrics[name] for name in expected}
  assert metrics == pytest.approx(expected, abs=1e-6)
  # What writes is measured on the gold texts too.
  further = {*found.metrics} - {*expected}
  assert further == (
    {"token_accuracy", "perplexity"} if model.task.writes else set()
  )
  assert next(iter(found.metrics)) == FIRST[name]
  for baseline in found.baselines:
    assert any(baseline.startswith(f"{metric}_") for metric in found.metrics)


@pytest.mark.parametrize("name", RECORDS)
def test_the_files_have_metrics_answers_and_a_page(name, tmp_path):
  path = write_lines(tmp_path / "eval.jsonl", RECORDS[name])
  found = run(name, path)
  files = write(found, tmp_path / "new" / "out", "model")
  assert {*(tmp_path / "new" / "out").iterdir()} == {*files}
  text = {file.name: file.read_text() for file in files}
  squad = text.pop("predictions.json", None)
  assert text.keys() == {
    "evaluation.json",
    "evaluation.html",
    "predictions.jsonl",
  }
  written = json.loads(text["evaluation.json"])
  assert written["metrics"] == found.metrics
  assert written["task"] == name
  assert written["records"] == 2
  assert written["data"]["eval"] == [path]
  lines = list(map(json.loads, text["predictions.jsonl"].splitlines()))
  assert [{**line, "answer": None} for line in lines] == [
    {**record, "answer": None} for record in RECORDS[name]
  ]
  assert all(line["answer"] for line in lines)
  assert {*found.metrics} <= {*Reader(text["evaluation.html"]).words}
  assert (squad is None) == (name != "question_answering")
  if squad:
    assert json.loads(squad).keys() == {"x", "2"}


def test_bad_rows_stop_or_are_left_out_and_said(tmp_path):
  rows = [*RECORDS["classification"], {"text": "<none>", "label": 0.5}]
  path = write_lines(tmp_path / "eval.jsonl", rows)
  with user_error(r"eval\.jsonl:3: the label 0.5"):
    run("classification", path)
  found = run("classification", path, bad_rows="skip")
  assert len(found.records) == 2
  assert "eval.jsonl:3: the label 0.5" in found.skipped[0]
  files = write(found, tmp_path / "out", "model")
  assert json.loads(files[0].read_text())["skipped"] == found.skipped
  text = " ".join(Reader(files[1].read_text()).words)
  assert "1 rows left out" in text
  assert "expected a name or a whole number" in text


def test_unknown_labels_count_as_errors_and_are_said(tmp_path):
  rows = [{"text": "a", "label": x} for x in ("no", "yes", "<none>")]
  found = run("classification", write_lines(tmp_path / "eval.jsonl", rows))
  assert len(found.records) == 3
  _, page, *_ = write(found, tmp_path / "out", "model")
  text = " ".join(Reader(page.read_text()).words)
  assert "the model has no label <none>" in text


def test_records_of_a_regression_need_their_values(tmp_path):
  path = write_lines(tmp_path / "eval.jsonl", [{"text": "a"}])
  with user_error(r"eval\.jsonl:1: expected the field"):
    run("regression", path)


DATA = {
  "train": ["lost.tsv"],
  "eval": ["lost.tsv"],
  "header": False,
  "columns": {"text": 1, "label": 0},
  "bad_rows": "skip",
}


def write_run(folder, task, data):
  entry = {"task": {}, "model": {}, "vocabulary": None}
  entry["run"] = {"config": {"task": task, "data": data}, "data": ""}
  (folder / "bert_jax.json").write_text(json.dumps(entry))


def test_a_file_is_read_as_the_run_read_its_own(tmp_path):
  write_run(tmp_path, "classification", DATA)
  (tmp_path / "a.tsv").write_text("yes\tthe list\n\tit\nno\tnames\n")
  (tmp_path / "b.tsv").write_text("it\tno\n")
  own = run("classification", str(tmp_path / "a.tsv"), tmp_path)
  assert list(own.records) == [
    {"text": "the list", "label": "yes"},
    {"text": "names", "label": "no"},
  ]
  assert len(own.skipped) == 1
  (tmp_path / "c.tsv").write_text("a\tyes\n")
  files = f"{tmp_path / 'b.tsv'}, {tmp_path / 'c.tsv'}"
  columns = {"text": 0, "label": 1}
  other = run("classification", files, tmp_path, columns=columns)
  assert list(other.records) == [
    {"text": "it", "label": "no"},
    {"text": "a", "label": "yes"},
  ]


def test_a_part_of_a_run_of_several_tasks_is_read_as_its_own(tmp_path):
  tasks = {"kind": {"task": "classification", **DATA}}
  write_run(tmp_path, "multi_task", {"tasks": tasks})
  (tmp_path / "a.tsv").write_text("yes\tthe list\n")
  path = str(tmp_path / "a.tsv")
  found = run("classification", path, tmp_path, part="kind")
  assert list(found.records) == [{"text": "the list", "label": "yes"}]


def test_tasks_without_labelled_records_are_refused(tmp_path):
  for name in sorted(TASKS.keys() - LABELLED.keys()):
    with user_error(f"the task {name} does not learn"):
      source(tmp_path, cases.task(name), "file")
  task = MultiTask(tasks={"kind": labelled.task("classification")})
  with user_error("choose one of kind with --task"):
    source(tmp_path, task, "file")


def test_a_soup_and_an_ensemble_are_evaluated_like_a_model(tmp_path):
  path = write_lines(tmp_path / "eval.jsonl", RECORDS["classification"])
  one = labelled.model("classification")
  expected = run("classification", path).metrics
  for combine in (bert_jax.soup, bert_jax.ensemble):
    made = combine([one, dataclasses.replace(one)])
    given = source("nowhere", made.task, path)
    assert evaluate(made, given).metrics == pytest.approx(expected)


def test_labels_measure_pairs_but_for_a_contrastive_run(tmp_path):
  rows = [{**r, "label": n} for n, r in enumerate(RECORDS["embedding"])]
  path = write_lines(tmp_path / "labelled.jsonl", rows)
  assert "spearman" in run("embedding", path).metrics
  targets = {"similarity": {"objective": "contrastive"}}
  write_run(tmp_path, "embedding", {"targets": targets, "columns": {}})
  rows = [
    {"text": "the array", "pair": "a list", "label": 1},
    {"text": "names", "pair": "it sorts", "negative": "it is"},
  ]
  path = write_lines(tmp_path / "e.jsonl", rows)
  found = run("embedding", path, tmp_path)
  assert [sorted(record) for record in found.records] == [
    ["pair", "text"],
    ["negative", "pair", "text"],
  ]
  assert next(iter(found.metrics)) == "mrr_at_10"
