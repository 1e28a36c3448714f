import numpy as np
import pytest

from bert_jax.data import counter_rng
from bert_jax.data.corpus import report, statistics


def test_hashes_tell_sentences_apart_wherever_they_lie():
  sentences = [[1, 2], [2, 1], [1], [1, 2], [0, 1, 2], [0], [0, 0], [1, 2, 0]]
  lengths = np.array(list(map(len, sentences)))
  ids = np.concatenate(sentences)
  hashes = statistics.hash_sentences(ids, lengths)
  assert len(set(hashes.tolist())) == len({tuple(s) for s in sentences})
  assert hashes[0] == hashes[3]


@pytest.mark.parametrize("distinct", [1_000, 300_000])
def test_share_of_duplicates(monkeypatch, distinct):
  monkeypatch.setattr(statistics, "_SKETCH", 1 << 12)
  random = np.random.default_rng(0)
  items = np.concatenate(
    [np.arange(distinct), random.integers(0, distinct, distinct // 3)]
  ).astype(np.uint64)
  hashes = counter_rng.hash_integers(random.permutation(items))
  sketches = []
  for parts in (1, 7):
    sketch = statistics.Duplicates.none()
    for part in np.array_split(hashes, parts):
      sketch = sketch.merge(statistics.Duplicates.none().add(part))
    sketches.append(sketch)
    assert len(sketch.hashes) <= 1 << 12
    assert sketch.share() == pytest.approx(0.25, abs=0.02)
  np.testing.assert_array_equal(sketches[0].hashes, sketches[1].hashes)
  np.testing.assert_array_equal(sketches[0].counts, sketches[1].counts)


def test_counts_of_parts_merge_into_those_of_the_whole():
  random = np.random.default_rng(1)
  lengths = np.append(random.integers(1, 40, 99), 700)
  ids = random.integers(0, 9, lengths.sum())
  whole = statistics.Statistics(documents=5, single=1)
  whole.add_sentences(ids, lengths, unknown_id=1)
  cut = int(lengths[:50].sum())
  first = statistics.Statistics(documents=3)
  first.add_sentences(ids[:cut], lengths[:50], unknown_id=1)
  second = statistics.Statistics(documents=2, single=1)
  second.add_sentences(ids[cut:], lengths[50:], unknown_id=1)
  merged = first.merge(second)
  assert report.figures(merged, 9, 9) == report.figures(whole, 9, 9)
  assert whole.longest == 700
  assert whole.long_tokens == 188
  assert whole.unknown == (ids == 1).sum()
  figures = report.figures(whole, 9, 9)
  assert sum(figures["sentence_lengths"].values()) == 100
  assert figures["sentence_lengths"]["512-1023"] == 1


GOOD = {
  "documents": 1000,
  "eval_documents": 20,
  "empty_documents": 0,
  "single_sentence_documents": 10,
  "sentences": 100_000,
  "empty_sentences": 0,
  "sentences_per_document": 100.0,
  "duplicate_share": 0.01,
  "tokens": 2_000_000,
  "unknown_share": 0.0001,
  "tokens_per_sentence": 20.0,
  "longest_sentence": 400,
  "tokens_beyond_512_share": 0.0,
  "sentence_lengths": {"16-31": 100_000},
  "characters": 9_000_000,
  "replaced_bytes": 0,
  "vocabulary_size": 8192,
  "vocabulary_wanted": 8192,
}


@pytest.mark.parametrize(
  ("name", "value", "remedy"),
  [
    ("unknown_share", 0.02, "config.corpus.vocab_size"),
    ("duplicate_share", 0.3, "duplicate_lines=exact"),
    ("sentences_per_document", 1.0, "next_sentence=False"),
    ("single_sentence_documents", 500, "config.corpus.documents"),
    ("tokens_beyond_512_share", 0.2, "config.corpus.sentences=prose"),
    ("empty_documents", 100, "config.corpus.field"),
    ("replaced_bytes", 1, "iconv"),
    ("vocabulary_size", 100, "more text"),
    ("tokens", 1000, "few"),
  ],
)
def test_each_warning_names_a_remedy_in_one_line(capsys, name, value, remedy):
  assert list(report.warnings(GOOD)) == []
  (warning,) = report.warnings(GOOD | {name: value})
  assert remedy in warning
  report.print_report(GOOD | {name: value})
  (line,) = [
    line for line in capsys.readouterr().out.split("\n") if "warning" in line
  ]
  assert remedy in line
