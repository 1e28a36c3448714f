import pickle
import struct

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from bert_jax.data import loader
from bert_jax.data.pretraining.examples import ExamplesConfig
from bert_jax.data.sources import tf_example
from bert_jax.data.sources.pretraining_records import PretrainingRecords
from bert_jax.data.stream import Stream
from tests.errors import user_error
from tests.interop.bundle_writer import checksum, message, varint

LENGTH, SLOTS = 16, 3
CONFIG = ExamplesConfig(max_length=LENGTH, max_predictions=SLOTS)


def masked_crc(data):
  return struct.pack("<I", checksum(data))


def frame(data):
  length = struct.pack("<Q", len(data))
  return length + masked_crc(length) + data + masked_crc(data)


def encode(features, packed=True):
  """A tf.train.Example."""
  entries = b""
  for name, values in features.items():
    if values and all(isinstance(value, bytes) for value in values):
      kind, content = 1, b"".join(message(1, value) for value in values)
    elif any(isinstance(value, float) for value in values):
      kind = 2
      items = [struct.pack("<f", value) for value in values]
      content = (
        message(1, b"".join(items))
        if packed
        else b"".join(varint(1 << 3 | 5) + item for item in items)
      )
    else:
      kind = 3
      items = [varint(value) for value in values]
      content = (
        message(1, b"".join(items))
        if packed
        else b"".join(varint(1 << 3) + item for item in items)
      )
    feature = message(kind, content)
    entries += message(1, message(1, name.encode()) + message(2, feature))
  return message(1, entries)


def features(number=0, **changes):
  used = 9 + number % 4
  ids = [2, 300 + number, 70000, *range(10, 10 + used - 4), 3]
  made = {
    "input_ids": ids + [0] * (LENGTH - used),
    "input_mask": [1] * used + [0] * (LENGTH - used),
    "segment_ids": [0] * 4 + [1] * (used - 4) + [0] * (LENGTH - used),
    "masked_lm_positions": [1, 2, 0],
    "masked_lm_ids": [29999, 7, 0],
    "masked_lm_weights": [1.0, 1.0, 0.0],
    "next_sentence_labels": [number % 2],
  }
  made |= changes
  return {name: values for name, values in made.items() if values is not None}


def write(path, records, packed=True):
  path.write_bytes(b"".join(frame(encode(r, packed)) for r in records))
  return path


def open_records(path, config=CONFIG, **kwargs):
  return PretrainingRecords((str(path),), config, **kwargs)


@pytest.mark.parametrize("packed", [True, False])
def test_reads_what_was_written(tmp_path, packed):
  for file in range(3):
    records = [features(10 * file + n) for n in range(file + 1)]
    write(tmp_path / f"part-{file}.tfrecord", records, packed)
  found = open_records(tmp_path / "*.tfrecord")
  assert found.epoch_length(0) == found.epoch_length(5) == 6
  for index, number in enumerate([0, 10, 11, 20, 21, 22]):
    example, wanted = found.example(3, index), features(number)
    used = sum(wanted["input_mask"])
    assert example.token_ids.tolist() == wanted["input_ids"]
    assert example.sequence_ids.tolist() == wanted["input_mask"]
    assert example.segment_ids.tolist() == wanted["segment_ids"]
    assert example.position_ids.tolist()[:used] == list(range(used))
    targets = example.targets
    assert targets["masked_lm/positions"].tolist() == [1, 2, 0]
    assert targets["masked_lm/ids"].tolist() == [29999, 7, 0]
    assert targets["masked_lm/weights"].tolist() == [1, 1, 0]
    assert targets["next_sentence/labels"].tolist() == [number % 2]
    assert targets["next_sentence/weights"].tolist() == [1]
    for values in (example.token_ids, targets["masked_lm/ids"]):
      assert values.dtype == np.int32
    assert targets["masked_lm/weights"].dtype == np.float32


def test_a_loader_takes_it(tmp_path):
  write(tmp_path / "a", [features(n) for n in range(5)])
  records = pickle.loads(pickle.dumps(open_records(tmp_path / "a")))
  with loader.training_batches(Stream(records, 5, 0)) as batches:
    batch = next(batches)
  assert sorted(batch.token_ids[:, 1]) == [300, 301, 302, 303, 304]
  assert batch.targets["next_sentence/labels"].shape == (5, 1)


def test_without_the_next_sentence_task_its_labels_weigh_nothing(tmp_path):
  write(tmp_path / "a", [features()])
  config = ExamplesConfig(
    max_length=LENGTH, max_predictions=SLOTS, next_sentence=False
  )
  targets = open_records(tmp_path / "a", config).example(0, 0).targets
  assert targets["next_sentence/weights"].tolist() == [0]


def test_files_that_do_not_exist(tmp_path):
  with user_error(r"config\.data\.train.*\*\.x"):
    open_records(tmp_path / "*.x")
  (tmp_path / "empty").touch()
  with user_error("no records"):
    open_records(tmp_path / "empty")
  with user_error(r"config\.data\.eval"):
    PretrainingRecords((), CONFIG, key="config.data.eval")


def refusal(path, index=None, **kwargs):
  """The one line with which the file or its record is refused."""
  with user_error() as caught:
    records = open_records(path, **kwargs)
    records.example(0, index)
  text = str(caught.value)
  assert str(path) in text and "\n" not in text
  return text


def test_gzip_is_refused_with_the_remedy(tmp_path):
  path = tmp_path / "part.tfrecord.gz"
  path.write_bytes(b"\x1f\x8b\x08\x00 and so on")
  assert "gunzip" in refusal(path)


def test_a_file_that_is_cut_off(tmp_path):
  path = write(tmp_path / "a", [features(0), features(1)])
  data = path.read_bytes()
  second = len(frame(encode(features(0))))
  for size in (second + 1, second + 11, second + 12, len(data) - 1):
    path.write_bytes(data[:size])
    assert f"record 1 at byte {second}" in refusal(path)


def test_every_flipped_byte_is_noticed(tmp_path):
  path = write(tmp_path / "a", [features(0), features(1)])
  data = path.read_bytes()
  second = len(frame(encode(features(0))))
  for place in range(second, len(data)):
    flipped = bytearray(data)
    flipped[place] ^= 0x10
    path.write_bytes(flipped)
    assert f"record 1 at byte {second}" in refusal(path, 1)


def test_an_insane_length_takes_no_memory(tmp_path):
  path = tmp_path / "a"
  length = struct.pack("<Q", 1 << 40)
  path.write_bytes(length + masked_crc(length) + bytes(100))
  assert "1099511627776" in refusal(path)
  path.write_bytes(length + bytes(100))
  assert "checksum" in refusal(path)
  path.write_text("This is not a TFRecord file, but text.\n" * 9)
  assert "not a TFRecord" in refusal(path)


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"input_ids": None}, r"no feature 'input_ids'; its features: input_mask,"),
    ({"input_ids": [5] * 32}, r"input_ids has 32 values.*config\.data\.max_le"),
    ({"input_mask": [1] * 15}, r"input_mask has 15 values.*length is 16"),
    ({"masked_lm_ids": [1] * 4}, r"has 4 values.*max_predictions is 3"),
    ({"next_sentence_labels": []}, r"next_sentence_labels has 0 values"),
    ({"masked_lm_weights": [1, 1, 0]}, r"masked_lm_weights: expected float"),
    ({"masked_lm_weights": [1.0, 1.0, float("nan")]}, r"weights: expected fin"),
    ({"input_ids": [1.0] * 16}, r"input_ids: expected integer"),
    ({"input_ids": [b"a"] * 16}, r"input_ids: expected integer"),
    ({"input_ids": [-1] + [0] * 15}, r"input_ids: .*got -1"),
    ({"input_ids": [1 << 40] + [0] * 15}, r"input_ids: .*got 1099511627776"),
    ({"input_ids": [80000] + [0] * 15}, r"expected 0 to 70000, got 80000"),
    ({"masked_lm_positions": [1, 2, 16]}, r"positions: expected 0 to 15"),
    ({"segment_ids": [2] * 16}, r"segment_ids: expected 0 to 1, got 2"),
    ({"next_sentence_labels": [2]}, r"next_sentence_labels: .*got 2"),
  ],
)
def test_wrong_features_are_named(tmp_path, changes, message):
  path = write(tmp_path / "a", [features(), features(1, **changes)])
  first = len(frame(encode(features())))
  records = open_records(path, vocabulary_size=70001)
  records.example(0, 0)
  with user_error(message) as caught:
    records.example(0, 1)
  assert f"{path}, record 1 at byte {first}: " in str(caught.value)


def test_a_file_that_shrinks_while_open(tmp_path):
  path = write(tmp_path / "a", [features(0), features(1)])
  records = open_records(path)
  for size in (300, 200, 0):
    path.write_bytes(path.read_bytes()[:size])
    with user_error("since it was opened"):
      records.example(0, 1)
  path.unlink()
  with user_error("No such file"):
    records.example(0, 1)


# On a busy machine any example may take long.
repeatable = hypothesis.settings(max_examples=100)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


@repeatable
@hypothesis.given(
  st.dictionaries(
    st.text(max_size=5),
    st.lists(INT64, min_size=1, max_size=9)
    | st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=9)
    | st.lists(st.binary(max_size=5), min_size=1, max_size=9),
    max_size=4,
  ),
  st.booleans(),
)
def test_any_example_is_read_back(written, packed):
  found = tf_example.parse(encode(written, packed))
  assert {name: list(values) for name, values in found.items()} == written


def damaged(place, byte):
  data = bytearray(encode(features()))
  data[place % len(data)] = byte
  return bytes(data)


@repeatable
@hypothesis.given(
  st.binary(max_size=80)
  | st.builds(bytes, st.lists(st.just(255)))
  | st.builds(damaged, st.integers(0, 10_000), st.integers(0, 255))
)
def test_malformed_bytes_raise_nothing_but_value_errors(data):
  try:
    tf_example.parse(data)
  except ValueError as error:
    assert "malformed proto" in str(error)
