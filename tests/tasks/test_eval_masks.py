"""Evaluation masks at the same rate, whatever that of training."""

import jax
import numpy as np
import pytest

from benchmarks import small_runs
from bert_jax.data.corpus import build
from bert_jax.models.config import EncoderConfig
from bert_jax.tasks import DATA, load_tokenizer, make
from bert_jax.training.recipe import Recipe
from tests.errors import user_error


def config(**keys):
  return DATA["masked_lm"](corpus="unused", max_length=128, **keys)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp("text")
  given = small_runs.write(folder, 1)["corpus"]
  given |= {"files": (str(folder / "text.txt"),), "eval_fraction": 0.5}
  build.prepare(build.CorpusConfig(**given), folder / "corpus")
  return str(folder / "corpus")


@pytest.mark.parametrize(
  ("rate", "slots"), [(0.3, 40), (0.25, 32), (0.15, 20), (0.0, 20)]
)
def test_slots_follow_the_rate(rate, slots):
  evaluated = config(mask_rate=rate, max_predictions=slots).for_eval
  assert evaluated.mask_rate == 0.15
  assert evaluated.max_predictions == 20


def test_a_run_at_15_percent_is_as_configured():
  assert config().for_eval == config()
  records = {"train": ("a",), "eval": ("b",), "mask_rate": 0.3}
  own = DATA["masked_lm"](**records)
  assert own.for_eval == own


def test_runs_of_all_rates_are_evaluated_on_the_same_examples(corpus):
  found = []
  for rate, slots in ((0.15, 5), (0.3, 10)):
    data = DATA["masked_lm"](
      corpus=corpus, max_length=32, mask_rate=rate, max_predictions=slots
    )
    tokenizer = load_tokenizer(data)
    encoder = EncoderConfig(vocab_size=len(tokenizer), max_positions=32)
    _, training = make(data, encoder, tokenizer)
    found.append(
      (training.evaluation().batch(0, range(8)), training.training(8, 0, None))
    )
  (one, few), (two, many) = found
  jax.tree.map(np.testing.assert_array_equal, one, two)
  few, many = (
    stream.batch(0, range(8)).targets["masked_lm/weights"].sum()
    for stream in (few, many)
  )
  assert many > 1.5 * few


def test_another_rate_is_a_key():
  data = {"corpus": "x", "mask_rate": 0.3, "max_predictions": 40}
  recipe = {"batch_size": 1, "steps": 1, "data": data}
  data["eval_mask_rate"] = 0.3
  own = Recipe.from_dict(recipe).data_config()
  assert own.for_eval == own
  data["eval_mask_rate"] = 1.3
  with user_error(r"config\.data\.eval_mask_rate: .* 1\.3"):
    Recipe.from_dict(recipe)
