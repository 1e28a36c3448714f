import json

import pytest

from bert_jax.cluster import goodput
from bert_jax.cluster.goodput import GoodputRecorder


def spend(recorder, clock, **seconds):
  for kind, value in seconds.items():
    recorder.enter(kind)
    clock[0] += value


def test_time_goes_to_what_was_done(clock, tmp_path):
  recorder = GoodputRecorder(tmp_path)
  clock[0] += 5
  spend(recorder, clock, compiling=15, training=60, evaluating=20)
  shares = recorder.shares()
  assert shares["starting"] == 0.05
  assert shares["compiling"] == 0.15
  assert recorder.goodput() == shares["training"] == 0.6
  assert sum(shares.values()) == pytest.approx(1)


def test_a_restart_counts_what_is_lost(clock, tmp_path):
  recorder = GoodputRecorder(tmp_path)
  spend(recorder, clock, training=40)
  saved = recorder.state()
  spend(recorder, clock, training=10)
  recorder.write()
  clock[0] += 100  # Killed, and nobody there to restart it.
  recorder = GoodputRecorder(tmp_path)
  recorder.resume(saved)
  spend(recorder, clock, training=50)
  shares = recorder.shares()
  assert shares["training"] == 90 / 200
  assert shares["redone"] == 10 / 200
  assert shares["away"] == 100 / 200
  recorder.write()
  assert json.loads((tmp_path / goodput.FILE).read_text())["goodput"] == 0.45


def test_all_is_lost_without_a_checkpoint(clock, tmp_path):
  recorder = GoodputRecorder(tmp_path)
  spend(recorder, clock, training=40)
  recorder.write()
  recorder = GoodputRecorder(tmp_path)
  recorder.resume(None)
  assert recorder.goodput() == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seconds": {}}', "null"])
def test_a_damaged_file_is_as_good_as_none(clock, tmp_path, text):
  (tmp_path / goodput.FILE).write_text(text)
  assert GoodputRecorder(tmp_path).goodput() == 0
