"""Packed rows, compared with the same pretraining examples alone."""

import collections

import numpy as np
import pytest

from bert_jax.data.pretraining.examples import (
  ExamplesConfig,
  PretrainingExamples,
)
from bert_jax.text.tokenizer import SpecialIds
from tests.data.memory_corpus import make_corpus

SPECIAL = SpecialIds(pad=0, unknown=1, cls=2, sep=3, mask=4)
VOCABULARY = 1 << 14
FIELDS = ("token_ids", "segment_ids", "position_ids")


def make(documents=200, seed=7, **config):
  corpus = make_corpus(documents, mean_sentences=2, vocabulary=VOCABULARY)
  return PretrainingExamples(
    corpus,
    SPECIAL,
    VOCABULARY,
    np.arange(VOCABULARY) % 3 == 0,
    ExamplesConfig(**config),
    seed,
  )


def sequences_of(examples, epoch=0):
  """The sequences of all rows, each with its targets, as hashable tuples."""
  rows = examples.batch(epoch, range(examples.epoch_length(epoch)))
  found = []
  for row, ids in enumerate(rows.sequence_ids):
    targets = {name: x[row] for name, x in rows.targets.items()}
    used = targets["masked_lm/weights"] > 0
    places, words = (
      targets["masked_lm/positions"][used],
      targets["masked_lm/ids"],
    )
    for number in range(1, ids.max() + 1):
      (own,) = np.nonzero(ids == number)
      np.testing.assert_array_equal(np.diff(own), 1)
      masked = np.isin(places, own)
      found.append(
        (
          *(tuple(getattr(rows, name)[row, own].tolist()) for name in FIELDS),
          tuple((places[masked] - own[0]).tolist()),
          tuple(words[used][masked].tolist()),
          int(targets["next_sentence/labels"][number - 1]),
          float(targets["next_sentence/weights"][number - 1]),
        )
      )
    # Nothing beyond the sequences counts or is seen.
    assert (rows.token_ids[row, ids == 0] == SPECIAL.pad).all()
    assert not targets["next_sentence/weights"][ids.max() :].any()
    assert not (places[:, None] == np.flatnonzero(ids == 0)).any()
  return found


@pytest.mark.parametrize("max_sequences", [2, 5])
@pytest.mark.parametrize(
  "config",
  [
    {},
    {"whole_word": True},
    {"next_sentence": False},
    {"max_length": 512, "max_predictions": 76},
    {"max_length": 40, "max_predictions": 1},
    {"mask_rate": 0.9, "max_predictions": 120},
  ],
  ids=str,
)
def test_each_example_is_in_one_row_and_as_by_itself(config, max_sequences):
  alone = make(**config)
  packed = make(**config, max_sequences=max_sequences)
  assert packed.epoch_length(1) < alone.epoch_length(1)
  expected = collections.Counter(sequences_of(alone, 1))
  assert collections.Counter(sequences_of(packed, 1)) == expected


@pytest.mark.parametrize("rate", [0.0, 0.01, 0.15, 0.3, 1.0])
@pytest.mark.parametrize("next_sentence", [True, False])
def test_slots_suffice_for_the_worst_row(rate, next_sentence):
  for length in (16, 100, 128):
    for most in (1, 2, 3, 8, 50):
      config = ExamplesConfig(
        max_length=length,
        max_sequences=most,
        max_predictions=length,
        mask_rate=rate,
        next_sentence=next_sentence,
      )
      budget = [max(1, round(rate * n)) for n in range(length + 1)]
      # worst[n]: the most masks that sequences of n tokens together have.
      worst = [0] + [-length] * length
      for _ in range(most):
        worst = [
          max(
            [worst[n]]
            + [
              worst[n - own] + budget[own]
              for own in range(5 if next_sentence else 3, n + 1)
            ]
          )
          for n in range(length + 1)
        ]
      assert config.predictions >= max(worst)
      assert most == 1 or config.predictions <= max(worst) + most


def test_rows_differ_from_epoch_to_epoch_and_are_the_same_when_asked_again():
  examples, again = make(max_sequences=4), make(max_sequences=4)
  rows = {epoch: examples.batch(epoch, range(9)).token_ids for epoch in (0, 1)}
  for epoch in (1, 0):
    np.testing.assert_array_equal(
      np.stack([again.example(epoch, i).token_ids for i in range(9)]),
      rows[epoch],
    )
  assert (rows[0] != rows[1]).any()
