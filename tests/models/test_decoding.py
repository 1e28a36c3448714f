"""Decoding, compared with encoding the whole row anew for each token."""

import dataclasses
import functools
import itertools

import jax
import numpy as np
import pytest

from bert_jax.models.config import EncoderConfig
from bert_jax.models.decoding import Decoder
from bert_jax.models.generation import GenerationConfig
from bert_jax.models.heads import EncoderWithHeads, MaskedLanguageHead
from bert_jax.settings import UserError
from bert_jax.text.tokenizer import SpecialIds
from bert_jax.types import Batch

SPECIAL = SpecialIds(pad=0, unknown=1, cls=2, sep=3, mask=4)
LENGTH = 6
CONFIG = EncoderConfig(
  vocab_size=13,
  hidden_size=16,
  num_layers=2,
  num_heads=2,
  intermediate_size=24,
  max_positions=32,
  initializer_range=0.6,
  num_segments=0,
  pre_norm=True,
  rotary_base=100.0,
  local_rotary_base=10.0,
  local_window=6,
  global_every=2,
  vocab_multiple=8,
)
SOURCES = [[2, 7, 9, 5, 12, 3], [2, 6, 3], [2, 11, 8, 3]]


@pytest.fixture(scope="module")
def params():
  module = EncoderWithHeads(CONFIG, {"masked_lm": MaskedLanguageHead})
  batch = dataclasses.replace(
    sources(), targets={"masked_lm/positions": np.zeros((3, 1), np.int32)}
  )
  return module.init(jax.random.key(3), batch)["params"]


def sources(rows=SOURCES, length=8):
  ids = np.zeros((len(rows), length), np.int32)
  for row, source in zip(ids, rows):
    row[: len(source)] = source
  return Batch.from_ids(ids, ids > 0)


@functools.cache
def decoder(
  objective="causal",
  positions="continued",
  length=LENGTH,
  vocabulary=None,
  **options,
):
  made = Decoder(
    CONFIG,
    SPECIAL,
    GenerationConfig(**options),
    length,
    objective,
    positions,
    vocabulary=vocabulary,
  )
  return jax.jit(made)


def write(params, batch, seed=0, **options):
  return jax.tree.map(np.asarray, decoder(**options)(params, batch, seed))


@pytest.fixture(scope="module")
def log_probabilities(params):
  """From sources with written tokens to those of the next token."""
  module = EncoderWithHeads(CONFIG, {"masked_lm": MaskedLanguageHead})

  @jax.jit
  def apply(batch):
    logits = module.apply({"params": params}, batch)["masked_lm"]
    return jax.nn.log_softmax(logits[:, 0])

  def of(rows, objective, positions_of="continued"):
    """Rows are (source, written) ids."""
    size = 16
    ids = np.zeros((len(rows), size), np.int32)
    stages, positions, used = 0 * ids, 0 * ids, 0 * ids
    places = np.zeros((len(rows), 1), np.int32)
    for row, (source, written) in enumerate(rows):
      whole = [*source, *written]
      stage = [0] * len(source) + [*range(1, len(written) + 1)]
      first = 1 if positions_of == "restarted" else len(source)
      place = [*range(len(source)), *range(first, first + len(written))]
      if objective == "masked":
        whole.append(SPECIAL.mask)
        stage.append(-len(written) - 1)
        place.append(first + len(written))
      count = len(whole)
      ids[row, :count], stages[row, :count] = whole, stage
      positions[row, :count], used[row, :count] = place, 1
      places[row] = count - 1
    found = apply(
      Batch(
        ids,
        0 * ids,
        positions,
        used,
        {"masked_lm/positions": places},
        stage_ids=stages,
      )
    )
    return np.asarray(found, np.float64)

  return of


def allowed(scores, count=0, min_new_tokens=0):
  banned = [0, 1, 2, 4, *([3] if count < min_new_tokens else [])]
  scores = scores.copy()
  scores[banned] = -np.inf
  return scores[: CONFIG.vocab_size]


def texts_of(found, row):
  return [
    tuple(ids[:count])
    for ids, count in zip(found.ids[row].tolist(), found.lengths[row])
  ]


@pytest.mark.parametrize(
  ("objective", "positions"),
  [("causal", "continued"), ("masked", "continued"), ("masked", "restarted")],
)
def test_greedy_is_the_most_probable_token_of_the_row_encoded_anew(
  params, log_probabilities, objective, positions
):
  options, layout = {"min_new_tokens": 2}, (objective, positions)
  found = write(
    params, sources(), objective=objective, positions=positions, **options
  )
  for row, source in enumerate(SOURCES):
    written, score = [], 0.0
    while len(written) < LENGTH and written[-1:] != [3]:
      (scores,) = log_probabilities([(source, written)], *layout)
      scores = allowed(scores, len(written), **options)
      written.append(int(scores.argmax()))
      score += scores.max()
    ((text,), (total,)) = texts_of(found, row), found.scores[row]
    assert list(text) == [id for id in written if id != 3]
    assert total == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_wide_beam_finds_the_best_of_all_texts(
  params, log_probabilities, alpha
):
  length = 3
  ids = range(5, CONFIG.vocab_size)
  for source in SOURCES[:2]:
    texts = [
      written
      for count in range(length + 1)
      for written in itertools.product(ids, repeat=count)
    ]
    rows = [text for text in texts if len(text) < length]
    table = dict(
      zip(rows, log_probabilities([(source, x) for x in rows], "causal"))
    )
    best = {}
    for written in texts:
      score = sum(table[written[:i]][id] for i, id in enumerate(written))
      count = len(written)
      if count < length:
        score, count = score + table[written][3], count + 1
      best[written] = score / ((5 + count) / 6) ** alpha
    wanted = sorted(best, key=best.get, reverse=True)[:2]
    # Of the 8 first tokens and the end, two thirds are kept.
    found = write(
      params,
      sources([source]),
      length=length,
      num_beams=6,
      num_return_sequences=2,
      length_penalty=alpha,
    )
    assert texts_of(found, 0) == wanted
    np.testing.assert_allclose(
      found.scores[0], [best[x] for x in wanted], atol=1e-4
    )


@pytest.mark.parametrize(
  "options",
  [
    {"num_beams": 3, "num_return_sequences": 3, "length_penalty": 0.6},
    {"do_sample": True, "num_return_sequences": 2},
    {"objective": "masked", "min_new_tokens": 2},
  ],
  ids=["beams", "samples", "masked"],
)
def test_what_is_written_depends_on_the_source_alone(params, options):
  together = write(params, sources(), **options)
  for source, rows in ((0, [[], SOURCES[0], []]), (1, [SOURCES[1]] * 3)):
    others = write(params, sources(rows), **options)
    assert texts_of(others, 1) == texts_of(together, source)
    np.testing.assert_allclose(
      others.scores[1], together.scores[source], atol=1e-5
    )


@pytest.mark.parametrize(
  ("top_k", "top_p"), [(0, 1.0), (3, 1.0), (0, 0.6)], ids=["all", "k", "p"]
)
def test_samples_follow_the_distribution(
  params, log_probabilities, top_k, top_p
):
  count, temperature = 2000, 1.3
  (scores,) = log_probabilities([(SOURCES[1], [])], "causal")
  share = np.exp(allowed(scores / temperature))
  share /= share.sum()
  kept = np.argsort(-share)[: top_k or None]
  before = np.cumsum(share[kept]) - share[kept]
  kept = kept[before < top_p]
  found = write(
    params,
    sources(SOURCES[1:2]),
    length=1,
    do_sample=True,
    num_return_sequences=count,
    temperature=temperature,
    top_k=top_k,
    top_p=top_p,
  )
  ids = [text[0] if text else 3 for text in texts_of(found, 0)]
  seen = np.bincount(ids, minlength=len(share))
  assert seen[kept].sum() == count
  expected = count * share[kept] / share[kept].sum()
  chi_square = ((seen[kept] - expected) ** 2 / expected).sum()
  assert chi_square < 30  # Of at most 8 degrees of freedom.


def test_only_tokens_of_the_vocabulary_are_written(params):
  options = {"do_sample": True, "temperature": 50.0, "vocabulary": 8}
  found = write(params, sources(), num_return_sequences=50, **options)
  written = {id for row in range(3) for x in texts_of(found, row) for id in x}
  assert written == {5, 6, 7}


def test_seeds_draw_different_texts(params):
  drawn = {
    tuple(
      texts_of(
        write(params, sources(), seed, do_sample=True, num_return_sequences=2),
        0,
      )
    )
    for seed in range(4)
  }
  assert len(drawn) > 1


def test_the_most_probable_of_one_is_greedy(params):
  greedy = write(params, sources(), min_new_tokens=2)
  found = write(params, sources(), min_new_tokens=2, do_sample=True, top_k=1)
  np.testing.assert_array_equal(found.ids, greedy.ids)
  np.testing.assert_allclose(found.scores, greedy.scores, atol=1e-5)


@pytest.mark.parametrize(("num_beams", "size"), [(1, 2), (3, 1)])
def test_no_ngram_is_written_twice(params, num_beams, size):
  options = {"num_beams": num_beams, "length": 8, "min_new_tokens": 7}

  def repeats(found):
    texts = [text for row in range(3) for text in texts_of(found, row)]
    grams = [[*zip(*(x[i:] for i in range(size)))] for x in texts]
    return any(len({*x}) < len(x) for x in grams)

  if num_beams == 1:
    assert repeats(write(params, sources(), **options))
  options["no_repeat_ngram_size"] = size
  assert not repeats(write(params, sources(), **options))


@pytest.mark.parametrize(
  ("options", "message"),
  [
    (
      {"temperature": 0.0, "do_sample": True},
      "temperature: expected a number above 0",
    ),
    ({"temperature": 2.0}, "temperature: goes with do_sample"),
    ({"top_p": 1.5}, "top_p: expected above 0"),
    ({"num_beams": 0}, "num_beams: expected a whole number of at least 1"),
    ({"num_beams": 7}, "num_beams: 7 beams need a vocabulary of at least 14"),
    ({"num_beams": 2, "num_return_sequences": 3}, "3 texts need as many"),
    ({"num_beams": 2, "do_sample": True}, "goes without do_sample"),
    ({"max_new_tokens": 4, "min_new_tokens": 4}, "do not fit"),
    ({"seed": 1 << 32}, "seed: expected less"),
  ],
)
def test_wrong_options(options, message):
  with pytest.raises(UserError, match=message):
    decoder(**options)
