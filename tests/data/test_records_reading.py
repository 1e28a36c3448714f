"""Several files, records that tasks refuse, and fingerprints."""

import json

import pytest

from bert_jax import settings
from bert_jax.data import records
from tests.data.labelled import configured
from tests.errors import user_error


def read(config, split="train"):
  return records.read(config, split, ("text", "label"))


@pytest.fixture
def folder(tmp_path):
  (tmp_path / "a.tsv").write_text("text\tlabel\na\t1\nb\t2\n")
  (tmp_path / "b.csv").write_text("label,text\n3,c\n")
  (tmp_path / "c.jsonl").write_text('{"text": "d", "label": "4"}\n')
  return tmp_path


def test_files_of_several_formats(folder):
  config = configured(
    train=f"{folder}/[bc].*, {folder}/a.tsv", eval=f"{folder}/b.csv"
  )
  rows = read(config).rows
  assert [row.record["text"] for row in rows] == ["a", "b", "c", "d"]
  assert [row.record["label"] for row in rows] == ["1", "2", "3", "4"]
  assert [row.record["text"] for row in read(config, "eval").rows] == ["c"]


def test_one_empty_file_among_others(folder):
  (folder / "d.tsv").write_text("")
  with user_error(r"data.eval: .*d.tsv has no row"):
    read(configured(eval=f"{folder}/*"), "eval")


def test_a_task_refuses_records(folder):
  def prepare(record):
    if record["label"] == "2":
      raise settings.UserError("unknown label '2'")
    return record["text"].upper()

  with user_error(r"a.tsv:3: unknown label '2'"):
    read(configured(train=f"{folder}/*")).each(prepare)
  read_ = read(configured(train=f"{folder}/*", bad_rows="skip"))
  kept, prepared = read_.each(prepare)
  assert prepared == ["A", "C", "D"]
  assert [row.record["text"] for row in kept.rows] == ["a", "c", "d"]
  assert kept.skipped == [f"{folder}/a.tsv:3: unknown label '2'"]
  assert len(read_.rows) == 4 and not read_.skipped


def test_a_task_refuses_all_records(folder):
  def refuse(record):
    raise settings.UserError("no")

  with user_error(r"data.train: no rows are left, 1 are .*b.csv:2"):
    read(configured(train=f"{folder}/b.csv", bad_rows="skip")).each(refuse)


def test_fingerprints_tell_the_data_and_not_their_place(folder):
  def of(path, **options):
    return records.fingerprint(configured(train=str(path), **options), "train")

  path = folder / "a.tsv"
  first = of(path)
  assert len(first) == 64
  copy = folder / "copy.tsv"
  copy.write_bytes(path.read_bytes())
  assert of(copy) == first
  assert of(path, header=False) != first
  assert of(path, columns={"text": 0}) != first
  assert of(f"{folder}/[ab]*") != first
  copy.write_bytes(path.read_bytes() + b"x\t1\n")
  assert of(copy) != first
  with user_error(r"data.train: .*matches no"):
    of(folder / "nope")


def test_a_fingerprint_of_a_folder(tmp_path):
  for name in ("seq.in", "label"):
    (tmp_path / name).write_text("x\n")
  config = configured(train=str(tmp_path))
  first = records.fingerprint(config, "train")
  (tmp_path / "notes").write_text("nothing that is read")
  assert records.fingerprint(config, "train") == first
  (tmp_path / "label").write_text("y\n")
  assert records.fingerprint(config, "train") != first


def test_messages_name_the_section(folder):
  config = configured(train=f"{folder}/a.tsv")
  with user_error(r"config.tasks.ner.columns.x: "):
    records.read(config, "train", ("x",), section="config.tasks.ner")


def test_answers_in_json_lines(tmp_path):
  """The records' own form, and that of data sets on the Hub."""
  answers = [
    [{"text": "b", "start": 2}],
    {"text": ["b"], "answer_start": [2]},
    [],
    [{"text": "b", "start": 0}],
  ]
  lines = [
    json.dumps({"id": "1", "question": "?", "context": "a b", "answers": a})
    for a in answers
  ]
  path = tmp_path / "a.jsonl"
  path.write_text("\n".join(lines))
  found = records.read(
    configured(train=str(path), bad_rows="skip"),
    "train",
    ("id", "question", "context", "answers"),
  )
  one = [{"text": "b", "start": 2}]
  assert [row.record["answers"] for row in found.rows] == [one, one, []]
  assert found.skipped == [
    f"{path}:4: the answer 'b' is not at character 0 of the context, where 'a'"
    " is"
  ]
