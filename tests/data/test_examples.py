import pickle

import numpy as np
import pytest

from bert_jax import settings
from bert_jax.data.pretraining.examples import (
  ExamplesConfig,
  PretrainingExamples,
)
from bert_jax.text.tokenizer import SpecialIds
from tests import pytrees
from tests.data.memory_corpus import MemoryCorpus, make_corpus
from tests.errors import user_error

SPECIAL = SpecialIds(pad=4, unknown=1, cls=2, sep=3, mask=0)


def make(corpus=None, seed=7, **config):
  corpus = corpus or MemoryCorpus(
    [
      [sentence + 5 for sentence in document]
      for document in make_corpus(60).documents
    ]
  )
  vocabulary = 1 + max(s.max() for d in corpus.documents for s in d)
  return PretrainingExamples(
    corpus,
    SPECIAL,
    max(vocabulary, 5),
    np.arange(vocabulary) % 3 == 0,
    ExamplesConfig(**config),
    seed,
  )


def unmasked(example):
  ids = example.token_ids.copy()
  used = example.targets["masked_lm/weights"] > 0
  positions = example.targets["masked_lm/positions"][used]
  ids[positions] = example.targets["masked_lm/ids"][used]
  return ids


@pytest.mark.parametrize("length", [5, 32, 128])
@pytest.mark.parametrize("whole_word", [False, True])
def test_pair_layout(length, whole_word):
  examples = make(max_length=length, whole_word=whole_word)
  labels = []
  for index in range(min(200, examples.epoch_length(0))):
    example = examples.example(0, index)
    ids = unmasked(example)
    used = int(example.sequence_ids.sum())
    seps = np.flatnonzero(ids == SPECIAL.sep)
    assert ids[0] == SPECIAL.cls and len(seps) == 2 and seps[1] == used - 1
    assert seps[0] > 1 and seps[1] > seps[0] + 1  # neither segment is empty
    assert (ids[used:] == SPECIAL.pad).all()
    assert not np.isin(ids[1 : seps[0]], [0, 1, 2, 3, 4]).any()
    padding = [0] * (length - used)
    first, second = seps[0] + 1, used - seps[0] - 1
    assert example.segment_ids.tolist() == [0] * first + [1] * second + padding
    assert example.position_ids.tolist() == [*range(used), *padding]
    assert example.sequence_ids.tolist() == [1] * used + padding
    labels.append(int(example.targets["next_sentence/labels"][0]))
    assert example.targets["next_sentence/weights"] == [1]
    # Ids count up through the corpus: B follows A where it is the true next.
    follows = ids[first] == ids[first - 2] + 1
    if length > 5 and used < length:
      assert follows == (labels[-1] == 0)
  assert 0.4 < np.mean(labels) < 0.8 or length == 5


def test_single_segments_hold_whole_sentences_once():
  corpus = make_corpus(60)
  corpus = MemoryCorpus([[s[:30] + 5 for s in d] for d in corpus.documents])
  examples = make(
    corpus, next_sentence=False, max_length=64, max_predictions=10
  )
  seen = []
  for index in range(examples.epoch_length(3)):
    example = examples.example(3, index)
    used = int(example.sequence_ids.sum())
    seen.append(unmasked(example)[1 : used - 1])
    assert used <= 64 and not example.segment_ids.any()
    assert example.targets["next_sentence/weights"] == [0]
  # No sentence is longer than a row, so nothing is ever cut.
  everything = np.concatenate([s for d in corpus.documents for s in d])
  np.testing.assert_array_equal(np.concatenate(seen), everything)


def test_an_example_is_a_function_of_seed_epoch_and_index():
  examples, again = make(), make()
  last = examples.epoch_length(2) - 1
  # Asked in another order, and from another object.
  wanted = [(2, last), (0, 3), (2, 0), (1, 5)]
  first = [examples.example(*at) for at in wanted]
  for at, example in reversed(list(zip(wanted, first))):
    pytrees.assert_equal(again.example(*at), example)
  pytrees.assert_equal(
    pickle.loads(pickle.dumps(examples)).example(2, 0), first[2]
  )
  other = make(seed=8).example(0, 3)
  assert (other.token_ids != first[1].token_ids).any()


def test_epochs_mask_anew():
  # One example an epoch, always of the same text.
  corpus = MemoryCorpus([[np.arange(5, 90, dtype=np.int32)]])
  examples = make(corpus, next_sentence=False, short_probability=0.0)
  hidden = set()
  for epoch in range(10):
    assert examples.epoch_length(epoch) == 1
    targets = examples.example(epoch, 0).targets
    hidden.add(tuple(targets["masked_lm/positions"].tolist()))
  assert len(hidden) == 10


def test_one_sentence_corpus():
  corpus = MemoryCorpus([[np.array([7], np.int32)]])
  example = make(corpus).example(0, 0)
  assert unmasked(example)[:5].tolist() == [2, 7, 3, 7, 3]
  assert example.targets["next_sentence/labels"] == [1]


@pytest.mark.parametrize("max_sequences", [1, 3])
def test_index_out_of_range(max_sequences):
  examples = make(max_sequences=max_sequences)
  for index in (-1, examples.epoch_length(0)):
    with pytest.raises(IndexError, match="row"):
      examples.example(0, index)


def test_empty_corpus_and_bad_seed_are_named():
  with user_error(r"config\.data\.corpus"):
    PretrainingExamples(
      MemoryCorpus([]), SPECIAL, 9, np.zeros(9, bool), ExamplesConfig(), 0
    )
  with user_error(r"config\.seed.*-1"):
    make(seed=-1)


@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("max_length", 4),
    ("max_length", 1 << 16),
    ("max_predictions", 0),
    ("max_sequences", 0),
    ("mask_rate", 1.5),
    ("mask_share", -0.1),
    ("random_share", 0.3),
    ("short_probability", 2.0),
  ],
)
def test_config_errors_name_the_key(key, value):
  with user_error(rf"^config\.data\.{key}: .*{value}"):
    settings.from_dict(ExamplesConfig, {key: value}, "config.data")
