"""What a model makes of sequences that share a row, and of each alone."""

import dataclasses

import jax
import numpy as np
import pytest

from bert_jax import settings
from bert_jax.data.pretraining.examples import PretrainingExamples
from bert_jax.models.config import encoder_config
from bert_jax.tasks import DATA, TASKS, pretraining
from bert_jax.text.tokenizer import SpecialIds
from tests import pytrees
from tests.data.memory_corpus import make_corpus
from tests.errors import user_error

LENGTH, VOCABULARY = 48, 50
CONFIG = DATA["pretraining"](
  corpus="unused", max_length=LENGTH, max_predictions=5, max_sequences=4
)
SIZES = {
  "vocab_size": VOCABULARY,
  "hidden_size": 16,
  "num_layers": 1,
  "num_heads": 2,
  "intermediate_size": 24,
  "max_positions": LENGTH,
  "hidden_dropout": 0.0,
  "attention_dropout": 0.0,
}
CONFIGS = {
  "first": encoder_config(SIZES),
  "mean": encoder_config({**SIZES, "pooling": "mean"}),
  # Rotary positions, and windows that reach over a row's sequences.
  "modern": encoder_config(
    {
      **SIZES,
      "preset": "modern_base",
      "num_layers": 2,
      "local_window": 12,
      "global_every": 2,
    }
  ),
}


def rows(max_sequences, next_sentence=True):
  """All rows of an epoch of one small corpus."""
  corpus = make_corpus(40, mean_sentences=1.5, vocabulary=VOCABULARY)
  examples = PretrainingExamples(
    corpus,
    SpecialIds(pad=0, unknown=1, cls=2, sep=3, mask=4),
    VOCABULARY,
    np.zeros(VOCABULARY, bool),
    dataclasses.replace(
      CONFIG, max_sequences=max_sequences, next_sentence=next_sentence
    ),
    seed=1,
  )
  return examples.batch(0, range(examples.epoch_length(0)))


def make(config):
  task = TASKS["pretraining"].bind(config, None)
  return task, pytrees.of_task(task)


def grown(batch, *others):
  """The batch with zeros up to the largest shapes of others."""

  def grow(array, *arrays):
    wanted = np.max([x.shape for x in arrays], axis=0)
    return np.pad(array, [(0, n) for n in wanted - array.shape])

  return jax.tree.map(grow, batch, *others)


def by_sequence(batch, outputs):
  """For each sequence, named by its tokens, its outputs."""
  found = {}
  targets = batch.targets
  for row, ids in enumerate(batch.sequence_ids):
    for number in range(1, ids.max() + 1):
      (own,) = np.nonzero(ids == number)
      is_own = np.isin(targets["masked_lm/positions"][row], own)
      is_own &= targets["masked_lm/weights"][row] > 0
      name = (
        *batch.token_ids[row, own],
        *targets["masked_lm/ids"][row, is_own],
      )
      found[name] = (
        outputs["masked_lm"][row, is_own],
        outputs["next_sentence"][row, number - 1],
      )
  return found


@pytest.mark.parametrize("name", CONFIGS)
def test_sequences_that_share_a_row_are_as_alone(name):
  task, params = make(CONFIGS[name])

  @jax.jit
  def measure(params, batch):
    def loss(params):
      outputs = task.module.apply({"params": params}, batch)
      means = task.loss(outputs, batch)
      total = sum(mean.value() for mean in means.values())
      return total, (outputs, means | task.metrics(outputs, batch))

    return jax.grad(loss, has_aux=True)(params)

  alone, packed = rows(1), rows(4)
  assert len(packed.token_ids) < 0.8 * len(alone.token_ids)
  # Of one shape, to be compiled once: by slots and rows that weigh nothing.
  alone, packed = (grown(batch, alone, packed) for batch in (alone, packed))
  found = [jax.device_get(measure(params, batch)) for batch in (alone, packed)]
  (gradients, (outputs, means)), (their_gradients, (theirs, their_means)) = (
    found
  )
  expected, got = by_sequence(alone, outputs), by_sequence(packed, theirs)
  assert expected.keys() == got.keys()
  assert len(got) > 0.9 * alone.targets["next_sentence/weights"].sum()
  for key, wanted in expected.items():
    for a, b in zip(wanted, got[key]):
      np.testing.assert_allclose(a, b, atol=1e-5)
  for key, mean in means.items():
    np.testing.assert_allclose(their_means[key], mean, rtol=1e-5)
  for a, b in zip(*map(jax.tree.leaves, (gradients, their_gradients))):
    np.testing.assert_allclose(a, b, atol=1e-5 * max(1, np.abs(a).max()))


@pytest.mark.parametrize("next_sentence", [True, False])
@pytest.mark.parametrize("max_sequences", [1, 4])
def test_dummy_rows_are_shaped_like_the_rows(max_sequences, next_sentence):
  made = rows(max_sequences, next_sentence)
  for name in ("pretraining", "masked_lm"):
    data = DATA[name](
      corpus="unused",
      max_length=LENGTH,
      max_predictions=5,
      max_sequences=max_sequences,
      next_sentence=next_sentence,
    )
    _, training = pretraining.make(data, CONFIGS["first"], None)
    dummy, row = (
      vars(jax.tree.map(lambda x: (x.shape, x.dtype), batch))
      for batch in (
        pretraining.dummy_batch(data),
        jax.tree.map(lambda x: x[0], made),
      )
    )
    assert dummy == row
    slots = made.targets["masked_lm/positions"].shape[1]
    assert training.predictions == slots


def test_baselines_count_every_sequence_once():
  _, data = pretraining.make(CONFIG, CONFIGS["first"], None)
  alone, packed = (
    data.baselines([rows(max_sequences)]) for max_sequences in (1, 4)
  )
  assert alone.keys() == {
    *("mlm_accuracy_unigram_baseline", "nsp_accuracy_majority_baseline")
  }
  assert alone == packed


def test_records_cannot_be_packed():
  with user_error(
    r"^config\.data\.max_sequences: expected 1 with train, got 3"
  ):
    settings.from_dict(
      DATA["pretraining"], {"train": ("a",), "max_sequences": 3}, "config.data"
    )
