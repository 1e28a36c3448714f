"""The floors of writing, and their table."""

import json

import pytest

from benchmarks import floors, writing
from tests.errors import user_error

TRAIN = [
  {"text": "int getSize() {return size;}", "target": "int GetSize() {size}"},
  {"text": "void run(Task t) {t.go();}", "target": "void Run(Task t) {Go}"},
  {"text": "a red house", "target": "ein rotes Haus", "name": "a"},
  {"text": "a red dog", "target": "ein roter Hund", "name": "b"},
  {"text": "a dog", "target": "ein Hund", "name": "c"},
  {"text": "a house", "target": "ein Haus", "name": "d"},
  {"text": "the house", "target": "ein Haus", "name": "e"},
]


def test_names_are_exchanged_in_the_target_of_the_nearest_neighbour():
  asked = [{"text": "int getName() {return name;}"}]
  assert floors.nearest(TRAIN, asked) == [TRAIN[0]["target"]]
  assert floors.nearest_with_names(TRAIN, asked) == ["int GetName() {name}"]


def test_the_last_turn_finds_the_neighbour():
  train = [
    {"turns": ["Hello .", "How are you ?"], "target": "Fine ."},
    {"turns": ["How are you ?", "Bad weather ."], "target": "Yes ."},
  ]
  asked = [{"turns": ["Fine .", "How are they ?"]}]
  assert floors.nearest(train, asked) == ["Fine ."]
  assert floors.copy(train, asked) == ["How are they ?"]


def test_words_are_translated_one_by_one():
  asked = [{"text": "A dog, a unicorn."}]
  assert floors.word_by_word(TRAIN[2:], asked) == ["ein Hund, ein unicorn."]


@pytest.mark.parametrize(
  ("name", "words"),
  [
    ("_read_HTTPLine2", "Read http line 2."),
    ("getSize", "Get size."),
    ("x", "X."),
  ],
)
def test_a_name_in_words(name, words):
  assert floors.name_in_words([], [{"name": name}]) == [words]


def test_perplexity_by_counts():
  # Of four tokens, two in training: probabilities 3/6 and 1/6.
  assert floors.unigram_perplexity([[1, 1]], [[1]], 4) == pytest.approx(2)
  assert floors.unigram_perplexity([[1], [1]], [[0]], 4) == pytest.approx(6)


@pytest.mark.parametrize("name", writing.DATA_SETS)
def test_the_table_of_a_data_set(name, tmp_path, capsys):
  given = writing.DATA_SETS[name]
  rows = TRAIN[2:]
  if given.format == "parallel":
    paths = [tmp_path / field for field in ("text", "target")]
    for path in paths:
      lines = (row[path.name] + "\n" for row in rows)
      path.write_text("".join(lines))
  else:
    paths = [tmp_path / "rows.jsonl"]
    paths[0].write_text("".join(json.dumps(row) + "\n" for row in rows))
  files = [str(path) for path in paths]
  results = writing.measure(name, writing.section(name, files, files))
  assert {*given.metrics} <= {*results["floors"]["nearest neighbour"]}
  assert results["floors"]["nearest neighbour"]["exact_match"] == 1
  writing.print_results(name, results)
  printed = capsys.readouterr().out
  assert all(floor[:8] in printed for floor in given.floors)
  missing = writing.section(name, files, ["missing.jsonl"] * len(files))
  with user_error(r"config.data.eval: 'missing.jsonl' matches no file"):
    writing.measure(name, missing)
