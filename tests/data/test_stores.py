"""Text, records and corpora in object stores."""

import gzip
import json
import pickle
import shutil

from bert_jax.data import records
from bert_jax.data.sources import files, text_files
from bert_jax.storage import download_cache, paths
from tests.data.labelled import contents, read
from tests.errors import user_error


def put(where, content):
  paths.write_bytes(where, content.encode())


def test_text_is_found_by_patterns_read_and_described(s3, tmp_path):
  put(f"{s3}/t/a.txt", "one\n\ntwo\n")
  paths.write_bytes(f"{s3}/t/b.txt.gz", gzip.compress(b"three"))
  put(f"{s3}/t/c.md", "no")
  pattern = (f"{s3}/t/*.txt*",)
  source = text_files.open_source(pattern, "blank_line", "text", tmp_path)
  assert [doc["text"] for doc in source] == ["one", "two", "three"]
  described = files.describe(files.find(pattern, "key"))
  assert [entry["file"] for entry in described] == [
    f"{s3}/t/a.txt",
    f"{s3}/t/b.txt.gz",
  ]
  with user_error(r"^key: 's3://.*' is a folder; add /\*"):
    files.find((f"{s3}/t",), "key")
  with user_error(r"^key: 's3://.*' matches no file"):
    files.find((f"{s3}/t/*.csv",), "key")
  with user_error(r"^key: http://x: expected a local path"):
    files.find(("http://x",), "key")


def test_a_source_makes_copies_of_its_own_on_another_machine(s3, tmp_path):
  put(f"{s3}/a.txt", "one\n\ntwo\n")
  source = text_files.open_source(
    (f"{s3}/a.txt",), "blank_line", "text", tmp_path
  )
  sent = pickle.dumps(source)
  shutil.rmtree(download_cache.cache_folder())
  assert [doc["text"] for doc in pickle.loads(sent)] == ["one", "two"]


def test_labelled_records_are_read_from_a_store(s3):
  put(f"{s3}/r/train.tsv", "text\tlabel\ngood\tpos\nbad\tneg\n")
  put(f"{s3}/r/more.jsonl", json.dumps({"text": "fine", "label": "pos"}))
  config = records.RecordsConfig(train=(f"{s3}/r/*",))
  found = read(f"{s3}/r/*", ("text", "label"))
  assert [tuple(record.values()) for record in contents(found)] == [
    ("fine", "pos"),
    ("good", "pos"),
    ("bad", "neg"),
  ]
  before = records.fingerprint(config, "train")
  assert records.fingerprint(config, "train") == before
  put(f"{s3}/r/train.tsv", "text\tlabel\nother\tpos\n")
  assert records.fingerprint(config, "train") != before


def test_parallel_files_are_read_from_a_folder_of_a_store(s3):
  put(f"{s3}/atis/train/seq.in", "fly home\n")
  put(f"{s3}/atis/train/label", "flight\n")
  found = read(f"{s3}/atis/train", ("text", "label"))
  assert contents(found) == [{"text": "fly home", "label": "flight"}]
  config = records.RecordsConfig(train=(f"{s3}/atis/train",))
  assert records.fingerprint(config, "train")
