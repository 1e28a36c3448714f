"""Builds rows from segments: special tokens, packing and padding."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64

from bert_jax.batch import Batch
from bert_jax.data import counter_rng
from bert_jax.data.pretraining.masking import Masked
from bert_jax.data.pretraining.pairing import Pairs
from bert_jax.text.tokenizer import SpecialIds


class Sequences(NamedTuple):
  """Concatenated sequences with their special tokens.

  They are `[CLS] A [SEP] B [SEP]`, or `[CLS] A [SEP]` without `has_next`.
  Segment ids are 0 up to the first `[SEP]`, then 1. `is_random` tells whether B
  is random. `continues` tells which tokens continue a word that was found when
  the corpus was prepared.
  """

  token_ids: Int32[np.ndarray, "tokens"]
  segment_ids: Int32[np.ndarray, "tokens"]
  continues: Bool[np.ndarray, "tokens"]
  lengths: Int64[np.ndarray, "sequences"]
  is_random: Bool[np.ndarray, "sequences"]
  has_next: bool


def join(pairs: Pairs, special: SpecialIds, has_next: bool) -> Sequences:
  """Adds the special tokens to segments; B is omitted without `has_next`."""
  cls, sep = np.array([[special.cls], [special.sep]], np.int32)
  a, b = pairs.a, pairs.b
  if has_next:
    parts = [part for x, y in zip(a, b) for part in (cls, x, sep, y, sep)]
    sizes = [(len(x) + 2, len(y) + 1) for x, y in zip(a, b)]
  else:
    parts = [part for x in a for part in (cls, x, sep)]
    sizes = [(len(x) + 2, 0) for x in a]
  sizes = np.array(sizes, np.int64)
  segments = np.tile(np.array([0, 1], np.int32), len(sizes))
  ids = np.concatenate(parts)
  continues = ids < 0
  if continues.any():
    ids = np.where(continues, ~ids, ids)
  return Sequences(
    ids,
    np.repeat(segments, sizes.ravel()),
    continues,
    sizes.sum(axis=1),
    pairs.is_random,
    has_next,
  )


class Shape(NamedTuple):
  """The shape of rows.

  `sequences` and `predictions` are the numbers of slots for targets.
  """

  length: int
  sequences: int
  predictions: int


def lay(
  sequences: Sequences,
  masked: Masked,
  row: Int64[np.ndarray, "sequences"],
  shape: Shape,
  pad: int,
) -> Batch:
  """Writes sequences into padded rows; unused slots of targets are 0.

  `row` is the row of each sequence, ascending from 0 without gaps.
  """
  lengths, rows = sequences.lengths, row[-1] + 1
  starts = np.cumsum(lengths) - lengths
  first = np.searchsorted(row, np.arange(rows))
  place = counter_rng.index_in_group(np.bincount(row))
  begins = starts - starts[first[row]]
  owner = np.repeat(np.arange(len(lengths)), lengths)
  position = counter_rng.index_in_group(lengths)
  column = begins[owner] + position
  line = row[owner]

  ids = np.zeros((4, rows, shape.length), np.int32)
  ids[0] = pad
  ids[0, line, column] = masked.token_ids
  ids[1, line, column] = sequences.segment_ids
  ids[2, line, column] = position
  ids[3, line, column] = place[owner] + 1

  line = line[masked.positions]
  counts = np.bincount(line, minlength=rows)
  slot = counter_rng.index_in_group(counts)
  hidden = np.zeros((2, rows, shape.predictions), np.int32)
  hidden[0, line, slot] = column[masked.positions]
  hidden[1, line, slot] = masked.ids
  weights = np.zeros((rows, shape.predictions), np.float32)
  weights[line, slot] = 1

  labels = np.zeros((rows, shape.sequences), np.int32)
  labels[row, place] = sequences.is_random
  is_used = np.arange(shape.sequences) < np.bincount(row)[:, None]
  is_used &= sequences.has_next
  return Batch(
    *ids,
    targets={
      "masked_lm/positions": hidden[0],
      "masked_lm/ids": hidden[1],
      "masked_lm/weights": weights,
      "next_sentence/labels": labels,
      "next_sentence/weights": is_used.astype(np.float32),
    },
  )
