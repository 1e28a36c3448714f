import gzip
import json
import pickle
import sys

import numpy as np
import pytest

from bert_jax import settings
from bert_jax.data import sources
from bert_jax.data.sources import installed_docs, text_files
from tests.data.test_records_tfds import TinyLabelled
from tests.errors import user_error


def open_files(folder, files="*", **options):
  config = settings.from_dict(
    sources.SourceConfig,
    {"source": "text_files", "files": str(folder / files)} | options,
    "config.corpus",
  )
  scratch = folder.parent / "scratch"
  scratch.mkdir(exist_ok=True)
  return sources.open_source(config, scratch)


def texts(source):
  return [source[i]["text"] for i in range(len(source))]


@pytest.fixture
def folder(tmp_path):
  path = tmp_path / "text"
  path.mkdir()
  return path


@pytest.mark.parametrize(
  ("documents", "expected"),
  [
    ("blank_line", ["a\nb", "c"]),
    ("line", ["a", "b", "c"]),
    ("file", ["a\nb\n \n\n\nc"]),
  ],
)
def test_documents_of_text(folder, documents, expected):
  (folder / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r\n \r\n\r\n\r\nc\r\n")
  assert texts(open_files(folder, documents=documents)) == expected


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("documents", text_files.DOCUMENTS)
def test_any_document_at_random_equals_reading_the_whole(
  folder, monkeypatch, documents, newline
):
  """Against a plain reading; blocks are small, so that there are many."""
  monkeypatch.setattr(text_files, "_BLOCK", 257)
  random = np.random.default_rng(0)
  words = ["ant", "bée", "猫", "d" * 40]
  expected = []
  for name in ("a.txt", "b.txt"):
    documents_here = [
      [
        " ".join(random.choice(words, random.integers(1, 30)))
        for _ in range(random.integers(1, 6))
      ]
      for _ in range(200)
    ]
    text = "\n\n".join("\n".join(lines) for lines in documents_here)
    (folder / name).write_bytes(text.replace("\n", newline).encode())
    expected += {
      "blank_line": ["\n".join(lines) for lines in documents_here],
      "line": [line for lines in documents_here for line in lines],
      "file": [text],
    }[documents]
  source = pickle.loads(pickle.dumps(open_files(folder, documents=documents)))
  assert len(source) == len(expected)
  for index in random.permutation(len(expected)).tolist():
    assert source[index]["text"] == expected[index]
  with pytest.raises(IndexError):
    source[len(expected)]


def test_a_long_document_is_cut_without_loss(folder, monkeypatch):
  monkeypatch.setattr(text_files, "_BLOCK", 100)
  monkeypatch.setattr(text_files, "_LONGEST", 1000)
  text = "猫" * 2001
  (folder / "a.txt").write_text(text, encoding="utf-8")
  source = open_files(folder)
  assert len(source) > 2
  assert "".join(texts(source)) == text
  assert all(record["replaced_bytes"] == 0 for record in source)


def test_bytes_that_are_not_utf8_are_replaced_and_counted(folder):
  (folder / "a.txt").write_bytes("ok é �".encode() + b"\n\n\xff\xfe bad\xc3")
  records = list(open_files(folder))
  assert [r["replaced_bytes"] for r in records] == [0, 3]
  assert records[1]["text"] == "\ufffd\ufffd bad\ufffd"


def test_gzip_and_json_lines(folder):
  lines = [{"body": "one\n\ntwo", "label": 3}, {"body": "\ud800x"}]
  data = "\n\n".join(map(json.dumps, lines)).encode()
  (folder / "a.jsonl.gz").write_bytes(gzip.compress(data, mtime=0))
  (folder / "b.txt.gz").write_bytes(gzip.compress(b"three", mtime=0))
  source = open_files(folder, field="body")
  assert texts(source) == ["one\n\ntwo", "\ufffdx", "three"]
  assert source[0]["label"] == 3


@pytest.mark.parametrize(
  ("name", "data", "message"),
  [
    ("a.jsonl", b'{"text": "x"}\n\n{"text": 1}', r"a.jsonl:3: .*not text"),
    ("a.jsonl", b'{"text": "x"}\n{"txt": "y"}', r"a.jsonl:2: .*'text'.*txt"),
    ("a.jsonl", b'{"text": "x"}\n{"text', r"a.jsonl:2: expected one JSON"),
    ("a.jsonl", b"[" * 100_000, r"a.jsonl:1: expected one JSON"),
    ("a.txt", "text".encode("utf-16"), r"a.txt: looks UTF-16"),
    ("a.txt", bytes(range(8)) * 9 + b"\0" * 90, r"a.txt: looks binary"),
    ("a.txt", "酒店房间很大。".encode("gb18030"), r"a.txt: .*another encoding"),
    ("a.gz", gzip.compress(b"x" * 999, mtime=0)[:-9], r"a.gz: damaged or inco"),
    ("a.zip", b"PK", r"config.corpus.files: .*a.zip is not text"),
  ],
)
def test_damaged_files_are_named(folder, name, data, message):
  (folder / name).write_bytes(data)
  with user_error(message):
    texts(open_files(folder))


def test_no_files(folder):
  with user_error(r"corpus.files: '.*nope'"):
    open_files(folder, "nope")
  with user_error(r"is a folder; add /\*"):
    open_files(folder, "")
  with user_error(r"source: unknown 'text_fil'"):
    open_files(folder, source="text_fil")
  (folder / "a.txt").write_bytes(b"\n \n")
  (folder / "b.txt").write_bytes(b"")
  assert len(open_files(folder)) == 0


def test_several_patterns_and_each_file_once(folder):
  for name in ("b", "a", "c"):
    (folder / name).write_text(name)
  files = f"{folder}/c,{folder}/[ab], {folder}/a"
  config = settings.from_dict(
    sources.SourceConfig, {"source": "text_files", "files": files}
  )
  assert texts(sources.open_source(config, folder)) == ["a", "b", "c"]
  assert [d["bytes"] for d in sources.describe(config)] == [1, 1, 1]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """A tiny data set, built without TensorFlow."""
  folder = tmp_path_factory.mktemp("tfds")
  TinyLabelled(
    data_dir=folder, file_format="array_record"
  ).download_and_prepare()
  return str(folder)


def tfds_config(data_dir, **options):
  return sources.SourceConfig(
    **{"source": "tfds", "dataset": "tiny_labelled", "field": "sentence"}
    | {"data_dir": data_dir}
    | options
  )


def test_tfds_without_tensorflow(data_dir, tmp_path):
  config = tfds_config(data_dir, split="train[:75%]")
  source = pickle.loads(pickle.dumps(sources.open_source(config, tmp_path)))
  assert len(source) == 6
  for record in source:
    assert record["text"] == f"{record['idx']} é."
    assert record["replaced_bytes"] == 0
  assert sources.describe(config)[0]["dataset"] == "tiny_labelled/1.0.0"
  assert len(sources.describe(config)[1]["sha256"]) == 64
  assert "tensorflow" not in sys.modules


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"dataset": "no_such"}, "config.corpus.dataset: .*does not know 'no_such"),
    ({"dataset": ""}, "config.corpus.dataset"),
    ({"dataset": "imdb_reviews"}, "dataset: .*tfds build imdb_reviews"),
    ({"split": "dev"}, "config.corpus.split: .*'dev'"),
    ({"split": "train[:"}, "config.corpus.split"),
    ({"field": "text"}, "config.corpus.field: .*sentence, label"),
    ({"field": "label"}, "config.corpus.field: .*not text"),
  ],
)
def test_tfds_mistakes(data_dir, tmp_path, options, message):
  config = tfds_config(data_dir, **options)
  with user_error(message):
    sources.open_source(config, tmp_path)


def test_prose_of_docstrings():
  source = b'''"""Adds numbers, as :func:`~math.fsum` and ``sum`` do.

Title
-----
It is [exact](http://x.y), see `the paper <http://z>`_ and **run** it::

    code = not_prose

>>> add(1)
output

Args:
  x (int): The first number
    of the two numbers.
  y: z.
"""
def f():
  \'\'\'Returns nothing that one could use.\'\'\'
'''
  module, function = installed_docs.docstrings(source)
  assert installed_docs.paragraphs(module) == [
    "Adds numbers, as math.fsum and sum do.",
    "It is exact, see the paper and run it:",
    "X (int): The first number of the two numbers.",
  ]
  assert installed_docs.paragraphs(function) == [
    "Returns nothing that one could use."
  ]
  assert installed_docs.docstrings(b'x = """ unclosed') == []


def test_installed_docs(tmp_path, monkeypatch):
  """A few modules, read as the source reads all of them."""
  names = [m for m in installed_docs.modules() if m[0] == "absl-py"]
  assert names
  assert not any("test" in name for _, name, _ in names)
  monkeypatch.setattr(installed_docs, "modules", lambda: names + names)
  config = sources.SourceConfig("installed_docs")
  records = list(sources.open_source(config, tmp_path))
  assert {record["label"] for record in records} == {"absl-py"}
  # The second time nothing is new.
  modules = [record["module"] for record in records]
  assert len(modules) == len(set(modules)) > 3
  assert "absl/flags/_flagvalues.py" in modules
  packages = [entry["package"] for entry in sources.describe(config)]
  assert packages[0] == "python"
  assert {"jax", "numpy", "tokenizers"} < set(packages)
