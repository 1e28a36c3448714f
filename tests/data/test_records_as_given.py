"""Records as people bring them: forms, encodings, CoNLL under other names."""

import gzip
import json

import pytest

from bert_jax.data import records
from bert_jax.data.sources import files
from tests.data.labelled import configured, contents, read
from tests.errors import user_error

FIELDS = ("text", "label")
TAGGING = ("words", "tags")
ROWS = [{"text": "né", "label": "x"}, {"text": "a", "label": "y"}]
TSV = "text\tlabel\nné\tx\na\ty\n"
CSV = TSV.replace("\t", ",")
ARRAY = json.dumps(ROWS, indent=1)
LINES = "\n".join(map(json.dumps, ROWS))


@pytest.mark.parametrize(
  ("name", "data", "options"),
  [
    ("a.JSONL", LINES.encode(), {}),
    ("a.ndjson", b"\xef\xbb\xbf" + LINES.encode(), {}),
    ("a.jsonl.GZ", gzip.compress(LINES.encode()), {}),
    ("a.json", ARRAY.encode(), {}),
    ("a.Json", LINES.encode(), {}),
    ("a.jsonl", ARRAY.encode("utf-16"), {}),
    ("a.json", json.dumps({"data": ROWS}).encode(), {}),
    ("a.json", LINES.encode("utf-8-sig"), {"format": "jsonl"}),
    ("a.TSV", TSV.encode("utf-16"), {}),
    ("a.csv.gz", gzip.compress(CSV.encode("utf-32")), {}),
    ("a.csv", CSV.encode("cp1252"), {"encoding": "cp1252"}),
    ("a.data", CSV.encode(), {"format": "csv"}),
  ],
)
def test_every_form_has_the_same_records(tmp_path, name, data, options):
  path = tmp_path / name
  path.write_bytes(data)
  assert contents(read(path, FIELDS, **options)) == ROWS


def test_a_text_per_line(tmp_path):
  path = tmp_path / "a.txt"
  path.write_text(" a b\n\n[1]\r\n")
  assert contents(read(path, ("text",))) == [{"text": " a b"}, {"text": "[1]"}]


def test_an_encoding_that_is_unknown(tmp_path):
  for name in ("latin-99", "hex"):
    with user_error(f"config.data.encoding: .*{name}"):
      configured(encoding=name)


def test_halves_of_surrogate_pairs_stay_and_are_counted(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text('{"text": "a \\ud83d", "label": "\\ude00\\ud83d"}\n')
  found = read(path, FIELDS)
  assert contents(found) == [{"text": "a \ud83d", "label": "\ude00\ud83d"}]
  (note,) = found.notes
  assert note.startswith("3 lone surrogates in the texts of config.data.train")


def test_not_a_number_is_no_value(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text('{"text": "a", "label": NaN}\n{"text": "b", "label": 1.0}')
  found = read(path, FIELDS, bad_rows="skip")
  assert contents(found) == [{"text": "b", "label": 1}]
  assert "has no field 'label'" in found.skipped[0]


@pytest.mark.parametrize(
  ("cell", "expected"),
  [
    ("['a', \"b\"]", ["a", "b"]),
    ("['a' 'b c']", ["a", "b c"]),
    ("[0, 1, 0]", [0, 1, 0]),
    ("[0 1 0]", [0, 1, 0]),
    ("[]", []),
    # A word of a text.
    ("[1]", ["[1]"]),
    ("[a, b]", ["[a, b]"]),
  ],
)
def test_lists_of_other_programs(tmp_path, cell, expected):
  path = tmp_path / "a.tsv"
  path.write_text(f"text\tlabels\na\t{cell}")
  (record,) = contents(read(path, ("text", "labels")))
  assert record["labels"] == expected


def test_other_columns_are_kept_for_predictions(tmp_path):
  (tmp_path / "a.csv").write_text("id,review,stars\n7,fine,\n")
  (tmp_path / "b.jsonl").write_text(
    '{"id": 7, "review": "fine", "stars": null}\n'
  )
  for name, number, stars in (("a.csv", "7", ""), ("b.jsonl", 7, None)):
    config = configured(eval=f"{tmp_path}/{name}", columns={"text": "review"})
    (row,) = records.stream(config, "eval", ("text",), rest=True)
    assert row.record == {"text": "fine", "id": number, "stars": stars}


@pytest.mark.parametrize(
  ("given", "expected"),
  [
    ("a.tsv, b*.csv,", ("a.tsv", "b*.csv")),
    ('["a, b.tsv"]', ("a, b.tsv",)),
    (("a, b.tsv", "c"), ("a, b.tsv", "c")),
    (["a, b.tsv"], ("a, b.tsv",)),
    ("[ab].tsv", ("[ab].tsv",)),
    ("", ()),
  ],
)
def test_commas_in_paths(given, expected):
  assert configured(train=given).train == expected
  assert files.split(expected) == expected


MULTI_CONER = """\
# id a1\tdomain=en
# a note
EU\tB-ORG
#\tO
#tag\tO

# id a2\tdomain=en
Peter\tB-PER
"""


@pytest.mark.parametrize("separator", ["\t", " "])
@pytest.mark.parametrize("name", ["a.conll", "a.tsv", "a.TXT.gz"])
def test_conll_with_comments_of_any_width(tmp_path, name, separator):
  text = MULTI_CONER
  if separator == " ":
    text = text.replace("# id a1\tdomain=en", "# a1").replace("\t", " ")
  data = text.encode()
  path = tmp_path / name
  path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
  assert contents(read(path, TAGGING)) == [
    {"words": ["EU", "#", "#tag"], "tags": ["B-ORG", "O", "O"]},
    {"words": ["Peter"], "tags": ["B-PER"]},
  ]


def test_tables_and_texts_that_are_no_conll(tmp_path):
  table = tmp_path / "a.tsv"
  table.write_text("words\ttags\na|b\tO|O\nc\tO\n\nd\tO\n")
  assert len(read(table, TAGGING).rows) == 3
  texts = tmp_path / "a.txt"
  texts.write_text("good morning\nnice day\n\nwell done\n")
  found = read(texts, ("words", "text"), ("words", "text"))
  assert [record["text"] for record in contents(found)] == [
    "good morning",
    "nice day",
    "well done",
  ]
