import dataclasses
import importlib.metadata
import json
import sys

import numpy as np
import pytest

from bert_jax import settings, text
from bert_jax.data.corpus import build, segmentation, shards
from bert_jax.data.pretraining.examples import (
  ExamplesConfig,
  PretrainingExamples,
)

SENTENCES = (
  "我们在北京大学学习计算机科学。",
  "今天的天气非常好,我想去公园。",
  "他使用TensorFlow和BERT-base,版本3.5。",
  "No Chinese words here.",
)


@pytest.fixture
def config(tmp_path):
  pytest.importorskip("jieba")
  document = "\n".join(SENTENCES)
  (tmp_path / "text.txt").write_text(
    "\n\n".join([document] * 6), encoding="utf-8"
  )
  return build.CorpusConfig(
    source="text_files",
    files=(str(tmp_path / "text.txt"),),
    sentences="line",
    words="jieba",
    vocab_size=120,
    shards=2,
    eval_fraction=0.2,
  )


def words(sentence):
  """The words of a sentence whose later characters are marked, by jieba."""
  import jieba

  found = jieba.lcut(sentence)
  return [w for w in found if len(w) > 1 and "\u4e00" <= min(w) <= max(w)]


def test_a_corpus_marks_the_tokens_that_continue_a_word(config, tmp_path):
  build.prepare(config, tmp_path / "words", 1)
  plain = dataclasses.replace(config, words=None)
  build.prepare(plain, tmp_path / "plain", 1)
  corpus = shards.Corpus.open(tmp_path / "words")
  tokenizer = text.load(tmp_path / "words")
  for marked, expected in zip(corpus, shards.Corpus.open(tmp_path / "plain")):
    for sentence, ids, wanted in zip(SENTENCES, marked, expected):
      plain_ids = np.where(ids < 0, ~ids, ids)
      np.testing.assert_array_equal(plain_ids, wanted)
      found, previous = [], None
      for id in ids.tolist():
        if id < 0:
          if previous >= 0:
            found.append(tokenizer.token(previous))
          found[-1] += tokenizer.token(~id)
        previous = id
      assert found == words(sentence)
  assert words(SENTENCES[0])[1:] == ["北京大学", "学习", "计算机科学"]
  assert not words(SENTENCES[3])
  manifest = json.loads((tmp_path / "words" / "corpus.json").read_text())
  assert manifest["format"] == shards.FORMAT_WITH_WORDS
  version = importlib.metadata.version("jieba")
  assert {"package": "jieba", "version": version} in manifest["source"]


@pytest.mark.parametrize("whole_word", [False, True])
def test_whole_words_are_masked(config, tmp_path, whole_word):
  build.prepare(config, tmp_path / "corpus", 1)
  corpus = shards.Corpus.open(tmp_path / "corpus")
  tokenizer = text.load(tmp_path / "corpus")
  examples = PretrainingExamples(
    corpus,
    tokenizer.special,
    len(tokenizer),
    tokenizer.continuations,
    ExamplesConfig(
      max_length=64,
      mask_rate=0.4,
      mask_share=1.0,
      random_share=0.0,
      whole_word=whole_word,
      next_sentence=False,
    ),
    seed=0,
  )
  continues = {
    (document[0].tobytes(), place)
    for document in corpus
    for place in np.flatnonzero(document[0] < 0)
  }
  assert continues
  split = 0
  for epoch in range(8):
    for index in range(examples.epoch_length(epoch)):
      row = examples.example(epoch, index)
      hidden = row.targets["masked_lm/weights"] > 0
      positions = row.targets["masked_lm/positions"][hidden]
      ids = row.token_ids.copy()
      assert ids.min() >= 0
      ids[positions] = row.targets["masked_lm/ids"][hidden]
      is_masked = np.zeros(len(ids), bool)
      is_masked[positions] = True
      joined = tokenizer.decode(ids).replace(" ", "")
      for word in {w for sentence in SENTENCES for w in words(sentence)}:
        tokens = tokenizer.encode_pieces([word])[0]
        assert "".join(map(tokenizer.token, tokens)) == word
        for start in range(len(ids) - len(tokens)):
          if ids[start : start + len(tokens)].tolist() == tokens:
            part = is_masked[start : start + len(tokens)]
            split += part.any() and not part.all()
      assert joined
  assert (split == 0) == whole_word


def test_mistakes(config, tmp_path, monkeypatch):
  with pytest.raises(settings.UserError, match=r"corpus.words: unknown 'thu'"):
    dataclasses.replace(config, words="thu")
  segmentation._jieba.cache_clear()
  monkeypatch.setitem(sys.modules, "jieba", None)
  with pytest.raises(settings.UserError, match=r"install 'bert_jax\[chinese\]"):
    build.prepare(config, tmp_path / "corpus", 1)
