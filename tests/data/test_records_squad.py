"""Questions from the JSON files of SQuAD."""

import json

import pytest

from tests.data.labelled import contents, read
from tests.errors import user_error

QUESTIONS = ("id", "question", "context", "answers")


def squad(path, *questions, context="The cat Tom."):
  paragraphs = [{"context": context, "qas": list(questions)}]
  data = {"version": "v2.0", "data": [{"title": "t", "paragraphs": paragraphs}]}
  path.write_text(json.dumps(data))
  return path


def question(identity="a", **fields):
  answers = [{"text": "Tom", "answer_start": 8}]
  return {"id": identity, "question": "Who?", "answers": answers} | fields


def test_squad_1_and_2(tmp_path):
  two = [
    {"text": "Tom", "answer_start": 8},
    {"text": "cat Tom", "answer_start": 4},
  ]
  path = squad(
    tmp_path / "a.json",
    question(),
    question("b", answers=two, is_impossible="False"),
    question("c", answers=[], is_impossible="true", plausible_answers=two),
    question("d", answers=[]),
  )
  found = read(path, QUESTIONS)
  tom, cat = {"text": "Tom", "start": 8}, {"text": "cat Tom", "start": 4}
  assert [record["answers"] for record in contents(found)] == [
    [tom],
    [tom, cat],
    [],
    [],
  ]
  assert found.rows[0] == (
    f"{path}: a",
    {
      "id": "a",
      "question": "Who?",
      "context": "The cat Tom.",
      "answers": [tom],
    },
  )


def test_squad_without_answers(tmp_path):
  path = squad(tmp_path / "a.json", {"id": 7, "question": "?"})
  (record,) = contents(read(path, QUESTIONS, ("answers",)))
  assert record == {"id": "7", "question": "?", "context": "The cat Tom."}


@pytest.mark.parametrize(
  ("fields", "reason"),
  [
    (
      {"answers": [{"text": "Tom", "answer_start": 7}]},
      "the answer 'Tom' is not at character 7 of the context, where ' To' is",
    ),
    ({"answers": [{"text": "Tom", "answer_start": -4}]}, "at character -4"),
    ({"answers": [{"text": "", "answer_start": 0}]}, "expected text and start"),
    ({"answers": [{"text": "Tom"}]}, "expected text and start"),
    ({"answers": ["Tom"]}, "expected text and start"),
    ({"answers": "Tom"}, "expected a list"),
    ({"question": None}, "question: expected text, got None"),
    ({"is_impossible": "maybe"}, "expected true or false, got 'maybe'"),
    ({"id": "a"}, "duplicate question ID"),
  ],
)
def test_bad_questions(tmp_path, fields, reason):
  bad = question("b") | fields
  path = squad(tmp_path / "a.json", question(), bad, question("c"))
  with user_error(rf"a.json: {bad['id']}: .*"):
    read(path, QUESTIONS)
  found = read(path, QUESTIONS, bad_rows="skip")
  assert [record["id"] for record in contents(found)] == ["a", "c"]
  (message,) = found.skipped
  assert reason in message


def test_answers_beyond_the_basic_plane(tmp_path):
  """Positions count characters, not UTF-16 units nor bytes."""
  answers = [{"text": "猫", "answer_start": 2}]
  context = "\U0001f600é猫"
  path = squad(tmp_path / "a.json", question(answers=answers), context=context)
  (record,) = contents(read(path, QUESTIONS))
  assert record["answers"] == [{"text": "猫", "start": 2}]


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"", r"data.train: .*a.json has no rows"),
    (b'{"data": []}', r"data.train: .*a.json has no rows"),
    (b"[1]", r"a.json: \[0\]: expected one JSON object, got 1"),
    (b'{"data": {}}x', r"a.json: expected JSON: Extra data"),
    (b"{\n}{\n}", r"a.json: .*suffix of JSON lines is .jsonl"),
    (b'{\n"data": {}}', r"a.json: expected an array of JSON objects, SQuAD's"),
    (b'{"data": [{"paragraphs": [{}]}]}', r"a.json: .*'qas'"),
    (b'{"data": ["\xff"]}', r"a.json: .*0xFF is not UTF-8"),
    (b"[" * 99999, r"a.json: expected JSON"),
  ],
)
def test_files_that_are_no_squad(tmp_path, data, message):
  path = tmp_path / "a.json"
  path.write_bytes(data)
  with user_error(message):
    read(path, QUESTIONS, bad_rows="skip")


def test_squad_has_its_own_fields(tmp_path):
  path = squad(tmp_path / "a.json", question())
  with user_error(r"format: SQuAD .* not 'text'"):
    read(path, ("text", "label"))
  with user_error(r"columns.context: .*SQuAD"):
    read(path, QUESTIONS, columns={"context": "passage"})
