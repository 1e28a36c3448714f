"""Stages: causal encoders, prefix language models, masked copies, past keys."""

import dataclasses

import jax
import numpy as np
import pytest

from bert_jax.models.attention import Keys
from bert_jax.models.config import EncoderConfig
from bert_jax.models.encoder import Encoder
from bert_jax.types import Batch

SIZES = {
  "vocab_size": 50,
  "hidden_size": 16,
  "num_layers": 3,
  "num_heads": 2,
  "intermediate_size": 24,
  "max_positions": 32,
  "initializer_range": 0.3,
}
# With a window and RoPE, and in relative positions, positions count instead of
# places.
FAMILIES = {
  "bert": {},
  "modernbert": {
    "num_segments": 0,
    "pre_norm": True,
    "rotary_base": 100.0,
    "local_rotary_base": 10.0,
    "local_window": 6,
    "global_every": 3,
  },
}
RELATIVE = {
  "mpnet": {"num_segments": 0, "relative_buckets": 8, "num_layers": 1},
  "deberta": {
    "num_segments": 0,
    "relative_buckets": 8,
    "disentangled": True,
    "num_layers": 1,
  },
}
ALL = {**FAMILIES, **RELATIVE}
ATOL = 2e-6
IDS = np.random.default_rng(0).integers(1, 50, (2, 9))


with_relative = pytest.mark.parametrize("encode", sorted(ALL), indirect=True)


@pytest.fixture(params=sorted(FAMILIES), scope="module")
def encode(request):
  """From a batch to the outputs of an encoder, in JAX."""
  config = EncoderConfig(**{**SIZES, **ALL[request.param]})
  module = Encoder(config)
  params = jax.jit(module.init)(jax.random.key(0), Batch.from_ids(IDS))

  def apply(batch, **options):
    return jax.jit(lambda batch: module.apply(params, batch, **options))(batch)

  return apply


def staged(ids, stages, **changes):
  batch = dataclasses.replace(
    Batch.from_ids(ids), stage_ids=np.broadcast_to(stages, ids.shape)
  )
  return dataclasses.replace(batch, **changes)


def columns(batch, chosen):
  return jax.tree.map(lambda x: np.asarray(x)[:, chosen], batch)


def test_a_single_stage_is_the_bidirectional_encoder_bit_for_bit(encode):
  wanted = encode(Batch.from_ids(IDS))
  np.testing.assert_array_equal(encode(staged(IDS, 0)), wanted)


@pytest.mark.parametrize("encode", sorted(RELATIVE), indirect=True)
def test_relative_positions_are_those_of_places_without_copies(encode):
  wanted = encode(Batch.from_ids(IDS))
  np.testing.assert_allclose(encode(staged(IDS, 0)), wanted, atol=ATOL)


def test_tokens_depend_on_no_later_stage(encode):
  stages = np.array([0, 0, 0, 0, 1, 2, 3, 4, 5])
  whole = encode(staged(IDS, stages))
  for end in (4, 6, 8):
    cut = encode(columns(staged(IDS, stages), slice(end)))
    np.testing.assert_allclose(whole[:, :end], cut, atol=ATOL)
  # The source is bidirectional.
  other = IDS.copy()
  other[:, 3] = (other[:, 3] + 1) % 49 + 1
  assert abs(encode(staged(other, stages)) - whole)[:, 0].max() > 1e-3


@with_relative
def test_masked_copies_see_what_comes_before_them_and_are_not_seen(encode):
  mask, ids = 7, IDS[:1]
  stages = np.array([0, 0, 0, 0, 1, 2, 3, 4, 5])
  whole = encode(staged(ids, stages))
  positions = np.array([*range(9), 5, 7])
  with_copies = staged(
    np.concatenate([ids, [[mask, mask]]], axis=1),
    np.array([*stages, -2, -4]),
    position_ids=positions[None],
  )
  found = encode(with_copies)
  np.testing.assert_allclose(found[:, :9], whole, atol=ATOL)
  for place, position in ((9, 5), (10, 7)):
    alone = ids[:, : position + 1].copy()
    alone[:, position] = mask
    wanted = encode(staged(alone, stages[: position + 1]))[:, -1]
    np.testing.assert_allclose(found[:, place], wanted, atol=ATOL)


def test_packed_sequences_have_stages_of_their_own(encode):
  stages = np.array([0, 0, 1, 2, 3, 0, 1, 2, 3])
  sequences = np.array([1, 1, 1, 1, 1, 2, 2, 2, 2])
  positions = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3])
  packed = staged(
    IDS,
    stages,
    sequence_ids=np.broadcast_to(sequences, IDS.shape),
    position_ids=np.broadcast_to(positions, IDS.shape),
  )
  found = encode(packed)
  for part in (slice(0, 5), slice(5, 9)):
    alone = encode(staged(IDS[:, part], stages[part]))
    np.testing.assert_allclose(found[:, part], alone, atol=ATOL)


@with_relative
def test_tokens_attend_to_keys_of_earlier_calls(encode):
  """In steps, with the keys of a source shared by rows of different targets."""
  stages = np.array([0, 0, 0, 0, 1, 2, 3, 4, 5])
  source = columns(staged(IDS, stages), slice(4))
  targets = np.random.default_rng(1).integers(1, 50, (4, 5))
  rows = staged(
    np.concatenate([IDS[:, :4].repeat(2, axis=0), targets], axis=1), stages
  )
  wanted = encode(rows)
  shared = encode(source, keys=True).keys
  pasts = [[keys] for keys in shared]
  for begin, end in ((4, 6), (6, 9)):
    part = columns(rows, slice(begin, end))
    outputs = encode(part, keys=True, past=pasts)
    np.testing.assert_allclose(
      outputs.last_hidden_state, wanted[:, begin:end], atol=ATOL
    )
    pasts = [[*past, keys] for past, keys in zip(pasts, outputs.keys)]
  assert isinstance(pasts[0][-1], Keys)
