import json

import pytest

from bert_jax.cluster import goodput
from bert_jax.cluster.goodput import Ledger


@pytest.fixture
def clock(monkeypatch):
  """The time, to be set by hand."""
  now = [1000.0]
  monkeypatch.setattr(goodput.time, "time", lambda: now[0])
  return now


def spend(ledger, clock, **seconds):
  for kind, value in seconds.items():
    ledger.turn(kind)
    clock[0] += value


def test_time_goes_to_what_was_done(clock, tmp_path):
  ledger = Ledger(tmp_path)
  clock[0] += 5
  spend(ledger, clock, compiling=15, training=60, evaluating=20)
  shares = ledger.shares()
  assert shares["starting"] == 0.05
  assert shares["compiling"] == 0.15
  assert ledger.goodput() == shares["training"] == 0.6
  assert sum(shares.values()) == pytest.approx(1)


def test_a_restart_counts_what_is_lost(clock, tmp_path):
  ledger = Ledger(tmp_path)
  spend(ledger, clock, training=40)
  saved = ledger.state()
  spend(ledger, clock, training=10)
  ledger.write()
  clock[0] += 100  # Killed, and nobody there to restart it.
  ledger = Ledger(tmp_path)
  ledger.resume(saved)
  spend(ledger, clock, training=50)
  shares = ledger.shares()
  assert shares["training"] == 90 / 200
  assert shares["redone"] == 10 / 200
  assert shares["away"] == 100 / 200
  ledger.write()
  assert json.loads((tmp_path / goodput.FILE).read_text())["goodput"] == 0.45


def test_all_is_lost_without_a_checkpoint(clock, tmp_path):
  ledger = Ledger(tmp_path)
  spend(ledger, clock, training=40)
  ledger.write()
  ledger = Ledger(tmp_path)
  ledger.resume(None)
  assert ledger.goodput() == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"seconds": {}}', "null"])
def test_a_damaged_file_is_as_good_as_none(clock, tmp_path, text):
  (tmp_path / goodput.FILE).write_text(text)
  assert Ledger(tmp_path).goodput() == 0
