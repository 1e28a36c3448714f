import json
import pickle
from concurrent import futures

import numpy as np
import pytest

from bert_jax import settings
from bert_jax.data.corpus import shards
from tests.errors import user_error

VOCABULARY = 100


def write_corpus(folder, per_shard=(5, 0, 7), vocabulary_size=VOCABULARY):
  """A corpus of random documents, all of them to train on."""
  random = np.random.default_rng(0)
  documents = []
  for shard, count in enumerate(per_shard):
    name = shards.shard_name("train", shard, len(per_shard))
    writer = shards.ShardWriter(folder / name, vocabulary_size)
    for _ in range(count):
      lengths = random.integers(1, 20, random.integers(1, 6))
      ids = random.integers(0, vocabulary_size, lengths.sum())
      writer.write(ids, lengths)
      documents.append(np.split(ids, np.cumsum(lengths)[:-1]))
    writer.close()
  counts = shards.join_indices(folder, "train", len(per_shard))
  manifest = {
    "format": shards.FORMAT,
    "vocabulary_size": vocabulary_size,
    "files": {p.name: {"bytes": p.stat().st_size} for p in folder.iterdir()},
    "splits": {
      "train": {
        "documents": sum(counts),
        "shards": [
          {
            "file": shards.shard_name("train", shard, len(per_shard)),
            "documents": count,
          }
          for shard, count in enumerate(counts)
        ],
      },
      "eval": {"documents": 0, "shards": []},
    },
  }
  (folder / shards.MANIFEST).write_text(json.dumps(manifest))
  return documents


def assert_same(found, expected):
  assert len(found) == len(expected)
  for sentence, wanted in zip(found, expected):
    assert sentence.dtype == np.int32
    np.testing.assert_array_equal(sentence, wanted)


@pytest.mark.parametrize("vocabulary_size", [100, 1 << 16, (1 << 16) + 1])
def test_what_was_written_is_read(tmp_path, vocabulary_size):
  documents = write_corpus(tmp_path, vocabulary_size=vocabulary_size)
  corpus = shards.Corpus.open(tmp_path)
  assert len(corpus) == len(documents) == 12
  for index in reversed(range(12)):
    assert_same(corpus[index], documents[index])
  lengths = [len(sentence) for document in documents for sentence in document]
  assert corpus.sentence_lengths.dtype == np.uint32
  np.testing.assert_array_equal(corpus.sentence_lengths, lengths)
  assert corpus.document_starts.dtype == np.int64
  np.testing.assert_array_equal(
    np.diff(corpus.document_starts), list(map(len, documents))
  )
  for index in (-1, 12):
    with pytest.raises(IndexError):
      corpus[index]


def test_a_document_is_a_sequence_of_sentences(tmp_path):
  wanted = max(write_corpus(tmp_path, (9,)), key=len)
  (document,) = [
    found
    for found in map(shards.Corpus.open(tmp_path).__getitem__, range(9))
    if sum(map(len, found)) == sum(map(len, wanted))
  ]
  assert_same(document[1:3], wanted[1:3])
  assert_same(document[2:], wanted[2:])
  assert_same([document[-1]], [wanted[-1]])
  assert document[2:2] == []
  with pytest.raises(IndexError):
    document[len(wanted)]


def test_the_two_byte_edge(tmp_path):
  assert shards.id_dtype(1 << 16) == np.uint16
  assert shards.id_dtype((1 << 16) + 1) == np.uint32
  writer = shards.ShardWriter(
    tmp_path / shards.shard_name("train", 0, 1), 1 << 16
  )
  writer.write(np.array([65535, 0]), np.array([1, 1]))
  writer.close()
  assert shards.join_indices(tmp_path, "train", 1) == [1]


def test_it_pickles_small_and_threads_share_it(tmp_path):
  documents = write_corpus(tmp_path, (300,))
  corpus = shards.Corpus.open(tmp_path)
  pickled = pickle.dumps(corpus)
  assert len(pickled) < 500
  corpus = pickle.loads(pickled)

  def read(seed):
    for index in np.random.default_rng(seed).permutation(300).tolist():
      assert_same(corpus[index], documents[index])

  with futures.ThreadPoolExecutor(8) as pool:
    list(pool.map(read, range(8)))  # Raises the errors of all.


def test_an_unfinished_or_unknown_corpus(tmp_path):
  with user_error(r"data.corpus: .*bert-jax prep"):
    shards.Corpus.open(tmp_path / "none")
  write_corpus(tmp_path)
  with user_error(r"no eval documents"):
    shards.Corpus.open(tmp_path, "eval")
  with user_error(r"unknown split 'test'"):
    shards.Corpus.open(tmp_path, "test")
  manifest = tmp_path / shards.MANIFEST
  for damaged in ("", "[]", "{}", "\xff"):
    manifest.write_text(damaged, encoding="latin-1")
    with user_error(r"corpus.json is damaged"):
      shards.Corpus.open(tmp_path)
  manifest.write_text('{"format": 99}')
  with user_error(r"format 99"):
    shards.Corpus.open(tmp_path)


@pytest.mark.parametrize(
  "name",
  [
    "train-00002-of-00003.array_record",
    "train.sentence_lengths.npy",
    "train.document_starts.npy",
  ],
)
def test_missing_and_truncated_files(tmp_path, name):
  write_corpus(tmp_path)
  path = tmp_path / name
  path.write_bytes(path.read_bytes()[:-1])
  with user_error(rf"{name} has \d+ bytes, not"):
    shards.Corpus.open(tmp_path)
  path.unlink()
  with user_error(rf"{name} is missing"):
    shards.Corpus.open(tmp_path)


def test_a_flipped_byte_gives_the_right_tokens_or_an_error(tmp_path):
  """Every record is intact, or its reading names the file."""
  documents = write_corpus(tmp_path, (20,))
  path = tmp_path / shards.shard_name("train", 0, 1)
  good = path.read_bytes()
  refused = 0
  used = len(good.rstrip(b"\0"))
  for place in [*range(0, 4000, 97), *range(used - 400, used, 29)]:
    damaged = bytearray(good)
    damaged[place] ^= 0x10
    path.write_bytes(damaged)
    corpus = shards.Corpus.open(tmp_path)
    for index, expected in enumerate(documents):
      try:
        found = corpus[index]
      except settings.UserError as error:
        assert path.name in str(error)
        refused += 1
      else:
        assert_same(found, expected)
  assert refused


def test_a_damaged_index_is_noticed(tmp_path):
  write_corpus(tmp_path)
  path = tmp_path / "train.sentence_lengths.npy"
  lengths = np.load(path)
  np.save(path, lengths[::-1])
  corpus = shards.Corpus.open(tmp_path)
  with user_error("does not match the index"):
    for index in range(len(corpus)):
      corpus[index]


@pytest.mark.parametrize("path", ["/dev/full", "none/shard"])
def test_a_shard_that_cannot_be_written_is_named(tmp_path, path):
  writer = shards.ShardWriter(tmp_path / path, VOCABULARY)
  with user_error(rf"cannot write .*{path}: "):
    writer.write(np.array([1]), np.array([1]))
    writer.close()
