"""Smaller models, from the command line."""

import json

import pytest

import bert_jax
from tests.commands import output, run
from tests.compression import test_structure as structure


@pytest.fixture(scope="module")
def home(tmp_path_factory):
  folder = tmp_path_factory.mktemp("models")
  bert_jax.save(structure.classifier(), folder / "full")
  lines = (json.dumps(record) + "\n" for record in structure.RECORDS)
  (folder / "records.jsonl").write_text("".join(lines))
  return folder


def test_every_step_makes_the_model_smaller(home):
  files = ("--data=records.jsonl", "--vocabulary=records.jsonl")
  flags = ("--layers=1,0", "--heads=0.5", "--units=0.5", *files, "--bits=8")
  out = output("compress", "--model=full", "--output=small", *flags, cwd=home)
  *rows, last = out.splitlines()
  assert last == "saved in small"
  counts = [int(row.split()[0].replace(",", "")) for row in rows]
  assert [row.rpartition(": ")[2][:8] for row in rows[:2]] == [
    "full",
    "layers 1",
  ]
  assert rows[2].endswith("heads 1 1, units 16 16")
  assert counts[1] > counts[2] > counts[3] == counts[4]
  # It is used as any other model.
  model = bert_jax.load(home / "small", dtype="int8")
  assert model.config.layer_heads == (1, 1)
  predictions = output(
    "predict", "--model=small", "--input=records.jsonl", cwd=home
  )
  answers = [json.loads(row)["answer"] for row in predictions.splitlines()]
  expected = model(structure.RECORDS)
  assert [x[0]["label"] for x in answers] == [x[0].label for x in expected]


def test_unknown_tokens_are_counted(home):
  (home / "other.jsonl").write_text('{"text": "it sorts", "label": "good"}\n')
  arguments = ("--output=trimmed", "--vocabulary=other.jsonl")
  output("compress", "--model=full", *arguments, cwd=home)
  record = {"text": "the 漢 list", "label": "good"}
  (home / "new.jsonl").write_text(json.dumps(record) + "\n")
  code, _, err = run(
    "predict", "--model=trimmed", "--input=new.jsonl", cwd=home
  )
  assert code == 0
  # The vocabulary has few characters: "the" and "list" were trimmed.
  assert "3 of 5 tokens (60.0%) of --input are unknown" in err
  out = output(
    "evaluate", "--model=trimmed", "--data=new.jsonl", "--output=e", cwd=home
  )
  assert "of --data are unknown to the vocabulary" in out


def test_zeros_are_removed(home):
  bert_jax.save(structure.masked(structure.classifier()), home / "zeros")
  out = output("compress", "--model=zeros", "--output=removed", cwd=home)
  assert out.splitlines()[1].endswith("heads 1 2, units 30 29, without zeros")


@pytest.mark.parametrize(
  ("flags", "message"),
  [
    ([], "expected one of --layers, --heads"),
    (["--heads=0.5"], "--data goes with --heads or --units"),
    (["--bits=8", "--data=x"], "--data goes with --heads or --units"),
    (["--layers=3"], "layers: expected 1 to 2 of them, got 3"),
    (["--layers=a"], "--layers: expected numbers, such as 0,2,4, got a"),
    (["--vocabulary=no.txt"], "--vocabulary: 'no.txt' matches"),
    (["--units=1", "--data=records.jsonl"], "share: expected from 0"),
  ],
)
def test_a_mistake_is_one_line(home, flags, message):
  arguments = ("--model=full", "--output=other", *flags)
  code, _, err = run("compress", *arguments, cwd=home)
  assert code == 2
  assert message in err
  assert not (home / "other").exists()
