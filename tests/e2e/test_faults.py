"""A small, seeded share of `python -m benchmarks.faults`."""

import random

from benchmarks import faults


def test_kills_lose_nothing_and_damage_is_never_silent(tmp_path):
  runs = faults.Runs(tmp_path, 60)
  runs.train("plain")
  killed = faults.kill(runs, 2, random.Random(1))
  assert killed["bit for bit the same"]
  assert killed["same position in the data"]
  assert killed["most updates redone"] < 2 * killed["updates from save to save"]
  damaged = faults.damage(runs, 20, random.Random(1))
  assert damaged["wrong"] == 0
  assert damaged.get("noticed", 0) > 10
