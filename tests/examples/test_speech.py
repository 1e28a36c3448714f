"""The speech example, on a few sentences."""

import gzip
import importlib.util
import json
import re
import shutil
import sys

import pytest

from bert_jax.evaluation import rescoring
from examples.speech import arpa, recognize, speak

TRAIN = ("A man sits.", "A man's dog sits on the grass.", "Two men talk.")
HELD_OUT = ("Two men sit on the grass", "A man sits.", "A man talks.")


@pytest.fixture
def multi30k(tmp_path):
  folder = tmp_path / "multi30k"
  folder.mkdir()
  for name, lines in (("train", TRAIN), ("val", HELD_OUT)):
    with gzip.open(folder / f"{name}.en.gz", "wt") as file:
      file.write("\n".join(lines))
  shutil.copy(folder / "val.en.gz", folder / "test_2016_flickr.en.gz")
  return folder


def test_an_arpa_file(tmp_path):
  arpa.write(tmp_path / "bigram.arpa", ["a man sits", "a dog sits"])
  text = (tmp_path / "bigram.arpa").read_text()
  head, unigrams, bigrams = re.split(r"\n\\\d-grams:\n", text)
  assert head == "\\data\\\nngram 1=7\nngram 2=6\n"
  bigrams, _, end = bigrams.partition("\n\\")
  assert end == "end\\\n"
  rows = [line.split("\t") for line in unigrams.splitlines()]
  own = {word: 10 ** float(value) for value, word, _ in rows}
  backoffs = {word: 10 ** float(value) for _, word, value in rows}
  assert sum(own.values()) == pytest.approx(1, abs=1e-5)
  pairs = {}
  for line in bigrams.splitlines():
    value, pair = line.split("\t")
    pairs[tuple(pair.split())] = 10 ** float(value)
  for before in own:
    total = sum(
      pairs.get((before, word), backoffs[before] * own[word]) for word in own
    )
    assert total == pytest.approx(1, abs=1e-5)


def test_what_is_not_installed_is_named(multi30k, tmp_path, monkeypatch):
  monkeypatch.setattr(shutil, "which", lambda name: None)
  with pytest.raises(SystemExit, match=r"^flite is not installed: .*apt-get"):
    speak.main([str(multi30k), str(tmp_path / "audio")])
  monkeypatch.setitem(sys.modules, "pocketsphinx", None)
  with pytest.raises(SystemExit, match=r"^PocketSphinx .* pip install"):
    recognize.main([str(tmp_path)])


@pytest.fixture
def audio(multi30k, tmp_path):
  if not shutil.which("flite"):
    pytest.skip("flite is not installed")
  speak.main([str(multi30k), str(tmp_path / "audio"), "--number", "2"])
  return tmp_path / "audio"


def test_sentences_are_spoken_and_a_second_run_goes_on(multi30k, audio):
  # A sentence that the language models are trained on is none to test.
  rows = [json.loads(line) for line in (audio / "tune.jsonl").open()]
  assert rows == [
    {"id": "tune-0", "reference": "two men sit on the grass"},
    {"id": "tune-2", "reference": "a man talks"},
  ]
  lost = audio / "test" / "test-0.wav"
  before = lost.read_bytes()
  lost.unlink()
  speak.main([str(multi30k), str(audio), "--number", "2"])
  # The noise is the same in every run.
  assert lost.read_bytes() == before
  with pytest.raises(SystemExit, match="choose another folder"):
    speak.main([str(multi30k), str(audio), "--number", "2", "--snr", "20"])


def test_speech_is_recognized_and_a_second_run_goes_on(audio):
  if not importlib.util.find_spec("pocketsphinx"):
    pytest.skip("PocketSphinx is not installed")
  recognize.main([str(audio)])
  path = audio / "tune.nbest.jsonl"
  whole = path.read_bytes()
  (found, _) = rescoring.read(str(path), need_references=True)
  assert found.reference == "two men sit on the grass"
  assert list(found.scores) == sorted(found.scores, reverse=True)
  assert len(set(found.texts)) == len(found.texts)
  assert (found.lm_scores < 0).all()
  path.write_bytes(whole[:-10])
  recognize.main([str(audio)])
  assert path.read_bytes() == whole
