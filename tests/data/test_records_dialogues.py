"""Dialogues whose turns end with `__eou__`."""

import pytest

from tests.data.labelled import contents, read
from tests.errors import user_error

FIELDS = ("turns", "target")
LINES = (
  "Can you ? __eou__ Why not ? __eou__ Good . __eou__\t1\t2 1 2\t0 0 4\n"
  "\n"
  "Hello . __eou__ Bye .\n"
)


@pytest.fixture
def path(tmp_path):
  path = tmp_path / "dialogues.txt"
  path.write_text(LINES)
  return path


def test_each_turn_but_the_first_is_a_target(path):
  # The format is told by the content of the file.
  assert contents(read(path, FIELDS)) == [
    {"turns": ["Can you ?"], "target": "Why not ?"},
    {"turns": ["Can you ?", "Why not ?"], "target": "Good ."},
    {"turns": ["Hello ."], "target": "Bye ."},
  ]


def test_dialogues_to_reply_to(path):
  found = contents(read(path, ("text", "turns"), optional=("text", "turns")))
  assert [row["turns"] for row in found] == [
    ["Can you ?", "Why not ?", "Good ."],
    ["Hello .", "Bye ."],
  ]


def test_records_of_a_dialogue_have_its_number(path):
  found = contents(read(path, (*FIELDS, "dialogue")))
  assert [row["dialogue"] for row in found] == [1, 1, 3]


def test_mistakes(path):
  with user_error(r"config.data.columns.turns: .* have no columns"):
    read(path, FIELDS, columns={"turns": "a"})
  with user_error(r"config.data.format: dialogues have the fields .*'label'"):
    read(path, (*FIELDS, "label"))
  path.write_text("Hello . __eou__\n")
  with user_error(r"dialogues.txt:1: expected turns .* got 'Hello . __eou__'"):
    read(path, FIELDS)
  assert len(contents(read(path, ("turns",)))) == 1
