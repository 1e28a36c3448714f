import json

import numpy as np
import pytest

from benchmarks import batches, cases, peers
from bert_jax.models.config import encoder_config
from bert_jax.types import Batch


def drawn(corpus, case, most, tmp_path, count=3, warmup=1):
  made = cases.config(case, corpus.folder, most, {})
  return batches.write_rows(case, made, count, warmup, tmp_path / f"{most}.npz")


def batch_of(sizes, length, masked):
  """A row with sequences of these lengths, and a number of masked tokens."""
  ids = np.zeros((1, length), np.int32)
  ids[0, : sum(sizes)] = np.repeat(np.arange(1, len(sizes) + 1), sizes)
  return Batch(
    ids, ids, ids, ids, {"masked_lm/weights": np.ones((1, masked), np.float32)}
  )


@pytest.mark.parametrize(
  ("length", "masked", "preset", "expected"),
  # Of a sequence, from the sizes of the published models.
  [
    (128, 20, "bert_base", 69.9e9),
    (512, 76, "bert_base", 300.9e9),
    (128, 20, "bert_large", 240.6e9),
    (512, 76, "bert_large", 1019.8e9),
  ],
)
def test_flops_of_a_full_row(length, masked, preset, expected):
  config = encoder_config({"preset": preset})
  found = batches.training_flops(config, [batch_of([length], length, masked)])
  assert found == pytest.approx(expected, rel=1e-3)


def test_flops_do_not_depend_on_packing():
  config = encoder_config({"preset": "bert_base"})
  packed = [batch_of([100, 20], 128, 18)]
  alone = [batch_of([100], 128, 15), batch_of([20], 128, 3)]
  assert batches.training_flops(config, packed) == pytest.approx(
    batches.training_flops(config, alone)
  )


def test_rows_without_real_lengths_are_full(corpus, case, tmp_path):
  found = drawn(corpus, case("training", 128, False), 1, tmp_path)
  assert found.tokens == found.positions == 2 * 4 * 128
  assert found.sequences == 2 * 4


def test_packed_rows_hold_more_sequences(corpus, case, tmp_path):
  alone, packed = (
    drawn(corpus, case("training", 512, True), most, tmp_path)
    for most in (1, 8)
  )
  assert alone.sequences == 8 < packed.sequences
  assert alone.tokens < packed.tokens <= packed.positions
  assert packed.tokens > 0.9 * packed.positions


def test_batches_are_read_as_written(corpus, case, tmp_path):
  found = drawn(corpus, case("training", 512, True), 1, tmp_path)
  batches = peers.load(found.path)
  assert len(batches) == 3
  assert sum((x["sequence_ids"] > 0).sum() for x in batches[1:]) == found.tokens
  assert batches[0]["token_ids"].shape == (4, 512)


def test_texts_and_their_rows(corpus, case, tmp_path):
  texts, rows = batches.write_texts(
    case("inference", 512, True), corpus, 3, tmp_path
  )
  written = json.loads((tmp_path / "texts.json").read_text())
  assert [len(chunk) for chunk in written] == [4, 4, 4]
  assert texts.tokens == rows.tokens and texts.sequences == 12
  assert peers.load(texts.path) == written
  ids = np.stack([x["sequence_ids"] for x in peers.load(rows.path)])
  assert ids.shape == (3, 4, 512) and (ids > 0).sum() == rows.tokens
  assert rows.positions == ids.size


def test_texts_of_full_rows_are_truncated(corpus, case, tmp_path):
  _, rows = batches.write_texts(
    case("inference", 128, False), corpus, 2, tmp_path
  )
  assert rows.tokens == rows.positions == 2 * 4 * 128


def test_labels_of_masked_tokens():
  rows = {
    "token_ids": np.zeros((2, 4), np.int32),
    "masked_lm/positions": np.array([[1, 3], [2, 0]]),
    "masked_lm/ids": np.array([[7, 8], [9, 0]]),
    "masked_lm/weights": np.array([[1.0, 1.0], [1.0, 0.0]]),
  }
  found = peers.labels(rows, -100).tolist()
  assert found == [[-100, 7, -100, 8], [-100, -100, 9, -100]]
