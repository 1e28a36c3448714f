"""A small, seeded share of `python -m benchmarks.faults`."""

import random

from benchmarks import faults
from bert_jax.training.recipe import Recipe
from bert_jax.training.run import train_recipe


def test_kills_lose_nothing_and_damage_is_never_silent(tmp_path):
  runs = faults.Runs(tmp_path, 60)
  train_recipe(Recipe.from_dict(runs.config), tmp_path / "plain")
  # Of this seed the kill waits for a step, and not for a time.
  killed = faults.kill(runs, 1, random.Random(2))
  assert killed["bit for bit equal"]
  assert killed["same position in the data"]
  assert (
    killed["maximum of repeated updates"] < 2 * killed["updates between saves"]
  )
  damaged = faults.damage(runs, 10, random.Random(1))
  assert damaged["wrong"] == 0
  assert damaged.get("noticed", 0) > 5
