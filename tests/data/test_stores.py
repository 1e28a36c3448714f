"""Text, records and corpora in object stores."""

import gzip
import json
import pickle
import shutil

import numpy as np
import pytest

from bert_jax import text
from bert_jax.data import records
from bert_jax.data.corpus import build, shards
from bert_jax.data.sources import files, text_files
from bert_jax.settings import UserError
from bert_jax.storage import download_cache, paths

TEXT = "one two three\nfour five six\n\n" * 20


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
  with pytest.raises(UserError, match=r"^key: 's3://.*' is a folder; add /\*"):
    files.find((f"{s3}/t",), "key")
  with pytest.raises(UserError, match=r"^key: 's3://.*' matches no file"):
    files.find((f"{s3}/t/*.csv",), "key")
  with pytest.raises(UserError, match=r"^key: http://x: expected a local path"):
    files.find(("http://x",), "key")


def test_a_source_makes_copies_of_its_own_on_another_machine(s3, tmp_path):
  put(f"{s3}/a.txt", "one\n\ntwo\n")
  source = text_files.open_source(
    (f"{s3}/a.txt",), "blank_line", "text", tmp_path
  )
  sent = pickle.dumps(source)
  shutil.rmtree(download_cache.cache_folder())
  assert [doc["text"] for doc in pickle.loads(sent)] == ["one", "two"]


def test_a_corpus_is_read_from_a_store(s3, tmp_path):
  put(f"{s3}/text.txt", TEXT)
  config = build.CorpusConfig(
    source="text_files",
    files=(f"{s3}/text.txt",),
    sentences="line",
    vocab_size=40,
    eval_fraction=0.1,
  )
  build.prepare(config, tmp_path / "corpus", processes=1)
  where = f"{s3}/prepared"
  paths.upload_folder(tmp_path / "corpus", where, last=shards.MANIFEST)
  here, there = map(shards.Corpus.open, (tmp_path / "corpus", where))
  assert len(here) == len(there) > 1
  for one, other in zip(here, pickle.loads(pickle.dumps(there))):
    np.testing.assert_array_equal(np.concatenate(one), np.concatenate(other))
  tokenizers = (text.load(tmp_path / "corpus"), text.load(where))
  ids = [tokenizer.encode("one six").ids for tokenizer in tokenizers]
  np.testing.assert_array_equal(*ids)
  with pytest.raises(UserError, match="no such file or folder"):
    shards.Corpus.open(f"{s3}/none")


def read(fields, **config):
  config = records.RecordsConfig(**config)
  found = records.read(config, "train", fields, (), ())
  return [row.record for row in found.rows]


def test_labelled_records_are_read_from_a_store(s3):
  put(f"{s3}/r/train.tsv", "text\tlabel\ngood\tpos\nbad\tneg\n")
  put(f"{s3}/r/more.jsonl", json.dumps({"text": "fine", "label": "pos"}))
  config = records.RecordsConfig(train=(f"{s3}/r/*",))
  fields = ("text", "label")
  found = read(fields, train=(f"{s3}/r/*",))
  assert [tuple(record.values()) for record in found] == [
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
  found = read(("text", "label"), train=(f"{s3}/atis/train",))
  assert found == [{"text": "fly home", "label": "flight"}]
  config = records.RecordsConfig(train=(f"{s3}/atis/train",))
  assert records.fingerprint(config, "train")
