"""Every key of a recipe is documented."""

import dataclasses
import json

import pytest

from benchmarks.small_runs import ROOT
from bert_jax.tasks import DATA
from bert_jax.training.recipe import Recipe
from launch import config_reference
from tests.commands import run

CONFIG = f"--config={ROOT}/configs/finetune/dialogue.py"


@pytest.mark.parametrize("task", DATA)
def test_every_key_has_a_type_a_default_and_a_meaning(task):
  sections = dict(config_reference.recipe_keys(task))
  assert {field.name for field in dataclasses.fields(Recipe)} == {
    *(key.key for key in sections.pop("")),
    *sections,
  }
  keys = [key for section in sections.values() for key in section]
  assert len({key.key for key in keys}) == len(keys)
  for key in keys:
    assert key.type and key.default, key
    assert key.meaning == " ".join(key.meaning.split())
    assert len(key.meaning) > 5, key


def test_a_key_without_a_meaning_is_an_error():
  @dataclasses.dataclass
  class Section:
    """A section.

    Attributes:
      one: a number,
        which may be large.
    """

    one: int = 1

  assert config_reference.describe(Section, "a") == [
    ("a.one", "int", "1", "a number, which may be large.")
  ]
  assert config_reference.describe(Section(2))[0].default == "2"

  @dataclasses.dataclass
  class Longer(Section):
    two: str | None = None

  with pytest.raises(LookupError, match=r"Longer: .* lack two"):
    config_reference.describe(Longer)


def test_the_keys_of_the_recipes_task_are_listed():
  code, out, err = run("train", CONFIG, "--help_config")
  assert (code, err) == (0, "")
  assert "\ndata.targets.slots.entities: bool = True\n    whether" in out
  assert "\noptimizer.schedule.warmup_fraction: float = 0.0\n    " in out


def test_the_resolved_config_is_the_recipes():
  code, out, err = run(
    "train", CONFIG, "--config.optimizer.b2=0.5", "--print_config"
  )
  assert (code, err) == (0, "")
  values = {}
  for line in out.splitlines():
    key, value = line.split(": ", 1)
    values[key] = json.loads(value)
  assert values["config.optimizer.b2"] == 0.5
  assert values["config.data.targets.slots.entities"] is True
  assert values["config.model.num_layers"] == 12
  assert "config.model.vocab_size" not in values
  code, _, err = run("prepare", CONFIG, "--print_config", "--config.step=3")
  assert (code, err[:28]) == (2, "error: config.step: unknown ")
