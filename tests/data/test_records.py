"""Labelled records from tables, and bad rows."""

import csv
import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data import labelled
from tests.data.labelled import contents
from tests.errors import user_error

FIELDS = ("text", "pair", "label")


def read(path, fields=FIELDS, optional=("pair",), **options):
  return labelled.read(path, fields, optional, **options)


def write(path, data):
  data = data.encode() if isinstance(data, str) else data
  path.write_bytes(data)
  return path


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_tsv_with_a_header(tmp_path, newline, bom):
  lines = ["id\tlabel\ttext", '1\tgood\ta "b', "", "2\tbad\tné 猫\u2028\x85x"]
  data = bom + newline.join(lines).encode()
  found = read(write(tmp_path / "a.tsv", data))
  assert contents(found) == [
    {"text": 'a "b', "label": "good"},
    {"text": "né 猫\u2028\x85x", "label": "bad"},
  ]
  assert [row.where for row in found.rows] == [
    f"{tmp_path}/a.tsv:2",
    f"{tmp_path}/a.tsv:4",
  ]


@pytest.mark.parametrize(
  ("line", "columns", "expected"),
  [
    ("t\tl", {}, {"text": "t", "label": "l"}),
    ("t\tp\tl", {}, {"text": "t", "pair": "p", "label": "l"}),
    ("t\t\tl", {}, {"text": "t", "label": "l"}),
    ("l\tx\tt", {"text": -1, "label": 0}, {"text": "t", "label": "l"}),
    # As a flag of a launch script gives it.
    ("l\tt", {"text": "1", "label": "-2"}, {"text": "t", "label": "l"}),
    # A recipe that lists its fields says nothing about their places.
    ("t\tl", {"text": "text", "label": ""}, {"text": "t", "label": "l"}),
  ],
)
def test_tsv_without_a_header(tmp_path, line, columns, expected):
  path = write(tmp_path / "a.tsv", line)
  assert contents(read(path, header=False, columns=columns)) == [expected]


def test_columns_by_name_and_number(tmp_path):
  path = write(tmp_path / "a.csv", "y, sentence ,label\n1,a,x\n2,b,y\n")
  columns = {"text": "sentence", "label": 0}
  assert contents(read(path, columns=columns)) == [
    {"text": "a", "label": "1"},
    {"text": "b", "label": "2"},
  ]


@given(
  st.lists(
    st.tuples(
      st.text(st.characters(codec="utf-8", exclude_characters="\0")),
      st.text(st.characters(codec="utf-8", exclude_characters="\0")),
    ),
    min_size=1,
    max_size=5,
  ),
  st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_csv_gives_back_what_was_written(tmp_path_factory, rows, quoting):
  path = tmp_path_factory.mktemp("csv") / "a.csv"
  with open(path, "w", encoding="utf-8", newline="") as file:
    writer = csv.writer(file, quoting=quoting)
    writer.writerows([("text", "label"), *rows])
  assert contents(read(path)) == [{"text": t, "label": y} for t, y in rows]


def test_places_of_csv_rows_with_quoted_newlines(tmp_path):
  path = write(tmp_path / "a.csv", 'text,label\r\n"a\r\nb\n",1\r\n\r\nc,2\r\n')
  found = read(path)
  assert [row.where.rpartition(":")[2] for row in found.rows] == ["2", "6"]
  assert found.rows[0].record["text"] == "a\r\nb\n"


def test_very_long_fields(tmp_path):
  text = "x" * 300_000
  for name, separator in (("a.csv", ","), ("a.tsv", "\t")):
    path = write(tmp_path / name, f"{text}{separator}1")
    (record,) = contents(read(path, header=False))
    assert record["text"] == text


def test_json_lines_with_nested_keys(tmp_path):
  lines = [
    {"a": {"b": "x", "c": None}, "y": 1},
    {"a": {"b": "z", "c": "p"}, "y": 0.5, "more": []},
    {"a.b": "literal", "y": "\U0001f600"},
  ]
  path = write(tmp_path / "a.jsonl", "\n \n".join(map(json.dumps, lines)))
  found = read(path, columns={"text": "a.b", "pair": "a.c", "label": "y"})
  assert contents(found) == [
    {"text": "x", "label": 1},
    {"text": "z", "pair": "p", "label": 0.5},
    {"text": "literal", "label": "\U0001f600"},
  ]
  assert found.rows[1].where == f"{path}:3"


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".jsonl"])
def test_gzip_is_read_as_it_is_unpacked(tmp_path, ending):
  line = '{"text": "a", "label": "b"}' if ending == ".jsonl" else "a\tb"
  data = line.replace("\t", "," if ending == ".csv" else "\t").encode()
  path = write(tmp_path / f"a{ending}.gz", gzip.compress(data, mtime=0))
  expected = [{"text": "a", "label": "b"}]
  assert contents(read(path, header=False)) == expected
  write(path, gzip.compress(data * 999, mtime=0)[:-9])
  with user_error(r"a.*gz: damaged.*gzip"):
    read(path, header=False, bad_rows="skip")


@pytest.mark.parametrize(
  ("separator", "cell", "expected"),
  [
    ("|", "a|b c | d", ["a", "b c", "d"]),
    ("|", "", []),
    ("|", "a", ["a"]),
    (" ", " a  b ", ["a", "b"]),
    (" ; ", "a; b;c", ["a", "b", "c"]),
  ],
)
def test_lists_in_cells(tmp_path, separator, cell, expected):
  path = write(tmp_path / "a.tsv", f"t\t{cell}")
  found = read(path, ("text", "labels"), header=False, separator=separator)
  assert contents(found) == [{"text": "t", "labels": expected}]


BAD_ROWS = [
  ("a.tsv", b"text\tlabel\na\tx\nb\nc\ty", 3, "expected 2 columns, got 1"),
  ("a.tsv", b"text\tlabel\na\tx\nb\ty\t\nc\ty", 3, "expected 2 columns, got 3"),
  ("a.tsv", b"text\tlabel\na\tx\n\xe9\ty\nc\ty", 3, "0xE9 is not UTF-8"),
  ("a.csv", b'text,label\na,x\n"b"d,y\nc,y', 3, "malformed CSV"),
  ("a.csv", b'text,label\na,x\nc,y\n"b,y\nd,y', 4, "malformed CSV"),
  ("a.csv", b"text,label\na,x\n\xff,y\nc,y", 3, "0xFF is not UTF-8"),
  ("a.jsonl", b'{"text": "a", "label": "x"}\n{\n', 2, "one JSON object"),
  ("a.jsonl", b'{"text": "a", "label": "x"}\n[1]\n', 2, "one JSON object"),
  ("a.jsonl", b'{"text": "a", "label": "x"}\n' + b"[" * 99999, 2, "one JSON"),
  ("a.jsonl", b'{"text": "a", "label": "x"}\n{"text": 1}', 2, "no field 'labe"),
]


@pytest.mark.parametrize(("name", "data", "line", "reason"), BAD_ROWS)
def test_bad_rows_fail_or_are_skipped(tmp_path, name, data, line, reason):
  path = write(tmp_path / name, data)
  with user_error(rf"{name}:{line}: .*{reason}.*config.data.bad_rows=skip"):
    read(path)
  found = read(path, bad_rows="skip")
  (skipped,) = found.skipped
  assert skipped.startswith(f"{path}:{line}: ") and reason in skipped
  assert contents(found)[0] == {"text": "a", "label": "x"}
  assert all(row.record["label"] in "xy" for row in found.rows)


@pytest.mark.parametrize(
  ("name", "data", "options", "message"),
  [
    ("a.tsv", "", {}, r"data.train: .*a.tsv has no rows"),
    ("a.tsv", "text\tlabel\n\n", {}, r"data.train: .*a.tsv has no rows"),
    ("a.tsv", "x\ty", {}, r"columns.text: .*'text'; its columns: x, y \(no he"),
    ("a.csv", "text,y", {}, r"columns.label: .*'label'; its columns: text, y"),
    ("a.csv", b"t\xe9xt,label\n", {}, r"a.csv: the header: .* 0xE9"),
    ("a.csv", "text,label,text\n", {}, r"columns.text: .*'text' 2 times"),
    (
      "a.csv",
      "text,label\na,b",
      {"columns": {"pair": "seconde"}},
      r"columns.pair: .*no column 'seconde'",
    ),
    (
      "a.csv",
      "text,label\na,b",
      {"columns": {"labels": "label"}},
      r"config.data.columns: unknown 'labels'; did you mean 'label'",
    ),
    ("a.csv", "text,label", {"columns": {"text": 2}}, r"no column 2; its"),
    ("a.csv", "a", {"header": False}, r"columns: .* 1 columns and no header"),
    (
      "a.csv",
      "a,b",
      {"header": False, "columns": {"text": "review"}},
      r"columns.text: expected the number .*'review'",
    ),
    (
      "a.csv",
      "a,b",
      {"header": False, "columns": {"text": 0}},
      r"columns.label: expected the number of its",
    ),
    (
      "a.csv",
      "a,b",
      {"header": False, "columns": {"text": 0, "label": 2}},
      r"columns.label: .*no column 2; its columns: 0, 1",
    ),
    ("a.jsonl", "{}", {"columns": {"text": 0}}, r"columns.text: .*a key"),
    ("a.jsonl", "{}", {"bad_rows": "skip"}, r"no rows are left, 1 are bad;"),
    ("a.doc", "x", {}, r"config.data.format: the suffix of .*a.doc"),
    ("a.txt", "x", {}, r"format: text files have .* text, but not 'label'"),
    ("a.tsv", "text".encode("utf-16-le"), {}, r"a.tsv: looks .*UTF-16 without"),
    (
      "a.tsv",
      "text".encode("utf-16") + b"x",
      {},
      r"a.tsv: is not text in the encoding utf-16",
    ),
    ("a.tsv", b"\0\1\2\3", {}, r"a.tsv: looks binary"),
  ],
)
def test_mistakes(tmp_path, name, data, options, message):
  path = write(tmp_path / name, data)
  with user_error(message):
    read(path, **options)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"format": "tcv"}, r"config.data.format: unknown 'tcv'; known: tsv"),
    ({"bad_rows": "warn"}, r"config.data.bad_rows: expected fail or skip"),
    ({"separator": ""}, r"config.data.separator"),
    ({"columns": {"text": 1.5}}, r"config.data.columns.text: .*1.5"),
    ({"dataset": "x", "format": "csv"}, r"config.data.dataset: .*'csv'"),
    ({"train": ""}, r"config.data.train: expected at least one"),
    ({"train": "", "format": "parallel"}, r"config.data.train: expected at le"),
    ({"format": "tfds", "train": ""}, r"config.data.train: expected a split"),
    ({"format": "tfds"}, r"config.data.dataset: expected a TFDS"),
    ({"train": "a,/no/such.tsv"}, r"config.data.train: .* matches no file"),
  ],
)
def test_settings(options, message):
  with user_error(message):
    read("/no/such.tsv", **options)
