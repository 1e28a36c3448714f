"""CoNLL and parallel files."""

import pytest

from tests.data.labelled import contents, read
from tests.errors import user_error

TAGGING = ("words", "tags")
DIALOGUE = ("words", "tags", "label")


def lines_of(found):
  return [int(row.where.rpartition(":")[2]) for row in found.rows]


CONLL_2003 = """\
-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

Peter NNP B-NP B-PER
"""


def test_conll_2003(tmp_path):
  path = tmp_path / "a.conll"
  path.write_text(CONLL_2003)
  found = read(path, TAGGING)
  assert contents(found) == [
    {"words": ["EU", "rejects"], "tags": ["B-ORG", "O"]},
    {"words": ["Peter"], "tags": ["B-PER"]},
  ]
  assert lines_of(found) == [3, 6]
  second = read(path, TAGGING, columns={"words": "0", "tags": -3})
  assert contents(second)[0]["tags"] == ["NNP", "VBZ"]


def test_conll_with_tabs_comments_and_hash_tags(tmp_path):
  """A # that has a tag is a word; one that has none begins a comment."""
  path = tmp_path / "a.bio"
  text = (
    "# id = 1\r\n#\tO\r\nNew York\tB-LOC\r\n\xa0\tO\r\n \t\r\n"
    "# text = a b\r\n#猫\tO\r\n\r\n\r\n"
  )
  path.write_bytes(b"\xef\xbb\xbf" + text.encode())
  found = read(path, TAGGING)
  assert contents(found) == [
    {"words": ["#", "New York", "\xa0"], "tags": ["O", "B-LOC", "O"]},
    {"words": ["#猫"], "tags": ["O"]},
  ]
  assert lines_of(found) == [2, 7]


def test_conll_without_tags(tmp_path):
  path = tmp_path / "a.conll"
  path.write_text("a\nb\n\nc\n")
  assert contents(read(path, TAGGING, optional=("tags",))) == [
    {"words": ["a", "b"]},
    {"words": ["c"]},
  ]
  with user_error(r"a.conll:1: .*'a' has no tag"):
    read(path, TAGGING)


@pytest.mark.parametrize(
  ("data", "line", "reason"),
  [
    (b"a\tO\n\nb\tO\nc\n\nd\tO\n", 4, "the word 'c' has no tag"),
    (b"a\tO\n\nb\tO\nNew York\n\nd\tO", 4, "'New York' has no tag"),
    (b"a\tO\n\nb\tO\nc\t\n\nd\tO", 4, "column 1 is empty"),
    (b"a O\n\nb O\nc O O\n\nd O", 4, "expected 2 columns, got 3"),
    (b"a\tO\n\nb\tO\n\xe9\tO\n\nd\tO", 4, "0xE9 is not UTF-8"),
    (b"a\tO\n\nb\tO\n\tO\n\nd\tO", 4, "column 0 is empty"),
  ],
)
def test_a_bad_line_makes_a_bad_sentence(tmp_path, data, line, reason):
  path = tmp_path / "a.conll"
  path.write_bytes(data)
  with user_error(rf"a.conll:{line}: .*{reason}"):
    read(path, TAGGING)
  found = read(path, TAGGING, bad_rows="skip")
  assert [record["words"] for record in contents(found)] == [["a"], ["d"]]
  assert len(found.skipped) == 1


@pytest.mark.parametrize(
  ("options", "fields", "message"),
  [
    ({"columns": {"tags": 4}}, TAGGING, r"columns.tags: .*no column 4; its"),
    ({"columns": {"tags": "ner"}}, TAGGING, r"columns.tags: .*'ner'"),
    ({}, ("text", "label"), r"config.data.format: CoNLL .* not 'text'"),
  ],
)
def test_mistakes_with_conll(tmp_path, options, fields, message):
  path = tmp_path / "a.conll"
  path.write_text(CONLL_2003)
  with user_error(message):
    read(path, fields, **options)
  path.write_text("# only a comment\n\n-DOCSTART- O\n")
  with user_error(r"data.train: .* no rows"):
    read(path, TAGGING)


@pytest.fixture
def folder(tmp_path):
  path = tmp_path / "snips"
  path.mkdir()
  (path / "seq.in").write_text("play  clásicos now \n\nadd it\n \n")
  (path / "seq.out").write_text("O B-x\tO\n\nO O \n")
  (path / "label").write_text("Play\n\n Add \n\n")
  return path


def test_a_folder_of_parallel_files(folder):
  found = read(folder, DIALOGUE)
  assert contents(found) == [
    {
      "words": ["play", "clásicos", "now"],
      "tags": ["O", "B-x", "O"],
      "label": "Play",
    },
    {"words": ["add", "it"], "tags": ["O", "O"], "label": "Add"},
  ]
  assert [row.where for row in found.rows] == [
    f"{folder}/seq.in:1",
    f"{folder}/seq.in:3",
  ]
  assert contents(read(folder, ("text", "pair", "label"), ("pair",)))[1] == {
    "text": "add it",
    "label": "Add",
  }
  (folder / "label").rename(folder / "intent")
  columns = {"label": "intent"}
  assert contents(read(folder, DIALOGUE, columns=columns)) == contents(found)
  with user_error(r"columns.label: .*no file 'lab"):
    read(folder, DIALOGUE)
  assert "label" not in contents(read(folder, DIALOGUE, ("label",)))[0]


def test_a_list_of_parallel_files(folder):
  paths = [f"{folder}/{name}" for name in ("seq.in", "seq.out", "label")]
  given = ",".join(paths)
  first, second = contents(read(given, DIALOGUE, format="parallel"))
  assert (first["label"], second["words"]) == ("Play", ["add", "it"])
  given = ",".join(paths[:2])
  found = read(given, DIALOGUE, ("label",), format="parallel")
  assert contents(found)[1] == {"words": ["add", "it"], "tags": ["O", "O"]}
  with user_error(r"format: parallel files: .*fol"):
    read(given, DIALOGUE, format="parallel")


def test_parallel_lines_that_do_not_fit(folder):
  (folder / "seq.out").write_text("O O\n\nO O\n")
  message = r"seq.in:1: expected a tag for each word, got 3 words and 2 tags"
  with user_error(message):
    read(folder, DIALOGUE)
  found = read(folder, DIALOGUE, bad_rows="skip")
  assert [record["label"] for record in contents(found)] == ["Add"]
  (folder / "label").write_text("\n\nAdd\n")
  with user_error(r"seq.in:1: no label on this"):
    read(folder, DIALOGUE)


@pytest.mark.parametrize("bad_rows", ["fail", "skip"])
def test_parallel_files_of_unequal_length(folder, bad_rows):
  """Which lines belong together is then anybody's guess."""
  (folder / "label").write_text("Play\n")
  with user_error(r"label: has 1 lines"):
    read(folder, DIALOGUE, bad_rows=bad_rows)
