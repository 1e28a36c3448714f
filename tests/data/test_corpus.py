import dataclasses
import fcntl
import json
import os
import pathlib
import pickle
import shutil

import numpy as np
import pytest

from bert_jax import settings, text
from bert_jax.data.corpus import build, sentences, shards, tokenization, workers
from bert_jax.storage import paths
from bert_jax.text import wordpiece_trainer
from tests.errors import user_error

WORDS = ["the", "cat", "dog", "runs", "sleeps", "très", "here", "3.5", "and"]


def random_text(seed, documents=120):
  random = np.random.default_rng(seed)

  def sentence():
    return " ".join(random.choice(WORDS, random.integers(2, 9))).title() + "."

  return "\n\n".join(
    " ".join(sentence() for _ in range(random.integers(1, 7)))
    for _ in range(documents)
  )


def make_config(folder):
  (folder / "text.txt").write_text(random_text(0), encoding="utf-8")
  return build.CorpusConfig(
    source="text_files",
    files=(str(folder / "text.txt"),),
    vocab_size=50,
    shards=3,
    eval_fraction=0.1,
  )


@pytest.fixture
def config(tmp_path):
  return make_config(tmp_path)


def content(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def all_documents(folder, documents, held_out):
  """The documents of both splits as they were in the source."""
  below = tokenization.eval_threshold(documents, held_out)
  places = tokenization.eval_mask(range(documents), below)
  splits = [
    iter(shards.Corpus.open(folder, split)) for split in ("train", "eval")
  ]
  return [next(splits[int(place)]) for place in places], places


def test_a_corpus_holds_what_the_tokenizer_makes_of_the_text(config, tmp_path):
  prepared = build.prepare(config, tmp_path / "corpus", processes=1)
  expected_text = (tmp_path / "text.txt").read_text(encoding="utf-8")
  expected_text = expected_text.split("\n\n")
  documents, places = all_documents(tmp_path / "corpus", 120, 0.1)
  tokenizer = text.load(tmp_path / "corpus")
  for found, document in zip(documents, expected_text):
    wanted = tokenizer.encode_pieces(sentences.prose(document))
    assert [sentence.tolist() for sentence in found] == wanted
  report = prepared.report
  assert report["documents"] == 120
  assert report["eval_documents"] == places.sum()
  assert 2 <= places.sum() <= 30
  assert report["sentences"] == sum(map(len, documents))
  flat = [len(s) for document in documents for s in document]
  assert report["tokens"] == sum(flat)
  assert report["longest_sentence"] == max(flat)
  assert report["vocabulary_size"] == len(tokenizer) == 50
  assert report["unknown_share"] == 0
  distinct = {s.tobytes() for document in documents for s in document}
  repeated = 1 - len(distinct) / len(flat)
  assert report["duplicate_share"] == pytest.approx(repeated, abs=1e-4)


def test_manifest_describes_every_file(config, tmp_path):
  build.prepare(config, tmp_path / "corpus", 1)
  manifest = json.loads((tmp_path / "corpus" / "corpus.json").read_text())
  files = content(tmp_path / "corpus")
  del files["corpus.json"]
  assert set(manifest["files"]) == set(files)
  assert manifest["source"][0]["file"] == str(tmp_path / "text.txt")
  assert manifest["config"]["vocab_size"] == 50


def test_a_corpus_that_is_there(config, tmp_path):
  output = tmp_path / "corpus"
  first = build.prepare(config, output, 1)
  before = content(output)
  assert not first.already_prepared
  again = build.prepare(config, output, 1)
  assert again.already_prepared
  assert again.report == first.report
  other = dataclasses.replace(config, vocab_size=40)
  with user_error("other text or settings"):
    build.prepare(other, output, 1)
  (tmp_path / "text.txt").write_text(random_text(1), encoding="utf-8")
  with user_error("--overwrite"):
    build.prepare(config, output, 1)
  assert content(output) == before
  build.prepare(config, output, 1, overwrite=True)
  assert content(output) != before
  (output / "vocab.txt").write_text("")
  with user_error(r"vocab.txt has 0 bytes"):
    build.prepare(config, output, 1)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_corpus_is_left_alone(config, tmp_path, overwrite):
  output = tmp_path / "thesis"
  output.mkdir()
  (output / "chapter").write_text("mine")
  with user_error("not a corpus"):
    build.prepare(config, output, 1, overwrite)
  assert content(output) == {"chapter": b"mine"}


@pytest.mark.parametrize(
  ("data", "message"),
  [
    ("", "no documents"),
    ("\n \n\n", "no documents"),
    ("One document. Two sentences.", "config.corpus.documents: .*one docume"),
    ("\x01\n\n\x02\n\n\x03", "no words"),
  ],
)
def test_text_to_no_purpose_leaves_nothing(config, tmp_path, data, message):
  (tmp_path / "text.txt").write_text(data)
  with user_error(message):
    build.prepare(config, tmp_path / "corpus", 1)
  assert [path.name for path in tmp_path.iterdir()] == ["text.txt"]


def test_text_without_tokens_is_dropped_and_counted(config, tmp_path):
  data = random_text(2, 50) + "\n\n\x01\n\n\x02\n\x03\n\nOne.\n\x04\nTwo."
  (tmp_path / "text.txt").write_text(data, encoding="utf-8")
  config = dataclasses.replace(config, eval_fraction=0.0, sentences="line")
  report = build.prepare(config, tmp_path / "corpus", 1).report
  assert report["documents"] == 51
  assert report["empty_documents"] == 2
  assert report["empty_sentences"] == 4
  found = list(shards.Corpus.open(tmp_path / "corpus"))
  assert len(found[-1]) == 2
  with user_error(r"config.corpus.eval_fraction"):
    shards.Corpus.open(tmp_path / "corpus", "eval")


@pytest.mark.parametrize("share", [1e-9, 0.02, 0.5, 1 - 1e-9])
@pytest.mark.parametrize("documents", [2, 3, 1000])
def test_some_and_never_all_are_held_out(documents, share):
  below = tokenization.eval_threshold(documents, share)
  held_out = tokenization.eval_mask(range(documents), below)
  assert 1 <= held_out.sum() < documents
  if documents == 1000:
    assert held_out.mean() == pytest.approx(share, abs=0.05)
  parts = [
    tokenization.eval_mask(range(start, start + 1), below)[0]
    for start in range(documents)
  ]
  assert parts == held_out.tolist()


def test_the_vocabulary_sample_is_bounded(config, tmp_path, monkeypatch):
  read = []
  count = wordpiece_trainer.count_words

  def counting(texts, rules):
    texts = list(texts)
    read.extend(texts)
    return count(texts, rules)

  monkeypatch.setattr(wordpiece_trainer, "count_words", counting)
  config = dataclasses.replace(
    config, vocabulary_sample=2500, eval_fraction=0.0
  )
  build.prepare(config, tmp_path / "corpus", 1)
  assert 1500 < sum(map(len, read)) < 4000


def test_a_given_vocabulary(config, tmp_path):
  build.prepare(config, tmp_path / "first", 1)
  for number, given in enumerate((tmp_path / "first", "vocab.txt")):
    given = tmp_path / "first" / given
    config = dataclasses.replace(config, vocabulary=str(given))
    output = tmp_path / str(number)
    report = build.prepare(config, output, 1).report
    for name, data in content(tmp_path / "first").items():
      if name != "corpus.json":
        assert (output / name).read_bytes() == data
    assert report["vocabulary_wanted"] == 50
  cased = dataclasses.replace(
    config, vocabulary=str(tmp_path / "first"), lowercase=False
  )
  with user_error(r"config.corpus.lowercase"):
    build.prepare(cased, tmp_path / "cased", 1)
  cased = dataclasses.replace(cased, vocabulary=str(given))
  report = build.prepare(cased, tmp_path / "cased", 1).report
  assert report["unknown_share"] > 0.1
  missing = dataclasses.replace(config, vocabulary=str(tmp_path / "none"))
  with user_error("none: no such file"):
    build.prepare(missing, tmp_path / "missing", 1)


def test_a_vocabulary_that_keeps_spaces_and_case(config, tmp_path):
  config = dataclasses.replace(config, tokenizer="byte_level", vocab_size=280)
  found = [
    build.prepare(config, tmp_path / f"with_{n}", n).report for n in (1, 2)
  ]
  assert found[0] == found[1]
  tokenizer = text.load(tmp_path / "with_2")
  assert len(tokenizer) == 280
  given = 'Très "A-b"  (c)'
  assert tokenizer.decode(tokenizer.encode(given).ids).strip() == given


@pytest.mark.parametrize(
  ("section", "message"),
  [
    (
      {"tokenizer": "byte_level", "lowercase": True},
      r"^config.corpus.lowercase: byte_level vocabularies keep",
    ),
    ({"tokenizer": "bytes"}, r"^config.corpus.tokenizer: unknown 'bytes'"),
    ({"source": "tfd"}, r"^config.corpus.source: unknown 'tfd'"),
    ({"sentences": "words"}, r"^config.corpus.sentences: unknown"),
    ({"eval_fraction": 1.0}, r"^config.corpus.eval_fraction: "),
    ({"shards": 0}, r"^config.corpus.shards: "),
    ({"vocab_size": "8k"}, r"^config.corpus.vocab_size: expected int"),
    ({"vocabsize": 8}, r"^config.corpus.vocabsize: .*'vocab_size'"),
  ],
)
def test_mistakes_in_the_config(section, message):
  with user_error(message):
    settings.from_dict(
      build.CorpusConfig, {"source": "tfds"} | section, "config.corpus"
    )


def test_two_runs_do_not_mix(config, tmp_path):
  partial = tmp_path / "corpus.partial"
  partial.mkdir()
  (partial / "left-over").write_text("of a killed run")
  descriptor = os.open(partial, os.O_RDONLY)
  fcntl.flock(descriptor, fcntl.LOCK_EX)
  with user_error("in use by another run"):
    build.prepare(config, tmp_path / "corpus", 1)
  os.close(descriptor)
  build.prepare(config, tmp_path / "corpus", 1)
  assert "left-over" not in content(tmp_path / "corpus")


def test_workers():
  assert list(workers.run(divmod, [(7, 2), (9, 4)], 2)) == [(3, 1), (2, 1)]
  with pytest.raises(ZeroDivisionError):
    list(workers.run(divmod, [(7, 2), (9, 0)], 2))
  with user_error("was killed"):
    list(workers.run(os._exit, [(1,)], 2))


def test_an_output_in_a_store(config, tmp_path, s3):
  build.prepare(config, tmp_path / "local", 1)
  output = f"{s3}/corpora/mine"
  assert not build.prepare(config, output, 1).already_prepared
  assert content(paths.local(output)) == content(tmp_path / "local")
  assert build.prepare(config, output, 1).already_prepared
  assert paths.list_names(f"{s3}/corpora", None) == ["mine"]
  there = pickle.loads(pickle.dumps(shards.Corpus.open(output)))
  for one, other in zip(shards.Corpus.open(tmp_path / "local"), there):
    np.testing.assert_array_equal(np.concatenate(one), np.concatenate(other))
  tokenizers = map(text.load, (tmp_path / "local", output))
  assert len({t.tokens for t in tokenizers}) == 1
  with user_error("no such file or folder"):
    shards.Corpus.open(f"{s3}/none")
  fewer = dataclasses.replace(config, shards=2)
  with user_error(r"s3://.*other text or setting"):
    build.prepare(fewer, output, 1)
  build.prepare(fewer, output, 1, overwrite=True)
  assert len(content(paths.local(output))) == 2 * 2 + 2 * 2 + 3 + 1
  # What was not put up to its end is no obstacle; what is not ours is.
  paths.remove(f"{output}/corpus.json")
  assert not build.prepare(config, output, 1).already_prepared
  assert content(paths.local(output)) == content(tmp_path / "local")
  paths.remove(f"{output}/corpus.json")
  paths.write_bytes(f"{output}/thesis", b"mine")
  with user_error("not a corpus"):
    build.prepare(config, output, 1)
  with user_error("no such bucket"):
    build.prepare(config, f"{s3}-none/corpus", 1)


def test_what_a_store_does_not_take_is_kept(config, s3, monkeypatch):
  def refuse(folder, where, last=None):
    raise settings.UserError(f"{where}: no answer")

  monkeypatch.setattr(paths, "upload_folder", refuse)
  with user_error(r"no answer; .*kept in") as caught:
    build.prepare(config, f"{s3}/corpus", 1)
  kept = pathlib.Path(str(caught.value).split()[-1])
  assert len(shards.Corpus.open(kept)) > 90
  shutil.rmtree(kept)
