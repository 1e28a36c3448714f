import dataclasses

import pytest

from bert_jax import settings, tasks
from tests.errors import user_error


@dataclasses.dataclass(frozen=True)
class Inner:
  rate: float = 0.5
  names: tuple[str, ...] = ()
  limit: int | None = None

  def __post_init__(self):
    if self.rate < 0:
      raise ValueError(f"rate: expected at least 0, got {self.rate}")


@dataclasses.dataclass(frozen=True)
class Outer:
  steps: int
  inner: Inner = dataclasses.field(default_factory=Inner)
  flag: bool = False


def test_values_reach_their_fields():
  outer = settings.from_dict(
    Outer,
    {"steps": 3, "inner": {"rate": 1, "names": ["a", "b"], "limit": None}},
  )
  assert outer == Outer(3, Inner(1.0, ("a", "b"), None))
  assert isinstance(outer.inner.rate, float)


def test_a_single_string_is_a_list_of_one():
  assert settings.from_dict(Inner, {"names": "a"}).names == ("a",)


@pytest.mark.parametrize(
  ("section", "message"),
  [
    ({}, "config.steps: missing"),
    ({"step": 1}, "config.step: unknown key; did you mean 'steps'?"),
    ({"rate": 1}, "config.rate: unknown key; did you mean config.inner.rate?"),
    (
      {"limits": 1},
      "config.limits: unknown key; did you mean config.inner.lim",
    ),
    ({"steps": 1.5}, "config.steps: expected int, got 1.5"),
    ({"steps": True}, "config.steps: expected int, got True"),
    ({"steps": "3"}, "config.steps: expected int, got '3'"),
    ({"steps": 1, "flag": 1}, "config.flag: expected bool, got 1"),
    ({"steps": 1, "inner": 3}, "config.inner: expected a section, got 3"),
    ({"steps": 1, "inner": {"rat": 1}}, "config.inner.rat: unknown key"),
    ({"steps": 1, "inner": {"rate": -1}}, "config.inner.rate: expected at"),
    ({"steps": 1, "inner": {"names": 3}}, "config.inner.names: expected a"),
    ({"steps": 1, "inner": {"names": [3]}}, "config.inner.names: expected str"),
    ({"steps": 1, "inner": {"limit": "x"}}, "config.inner.limit: expected int"),
  ],
)
def test_what_is_wrong_is_named_with_its_key(section, message):
  with user_error(message.replace("?", r"\?")):
    settings.from_dict(Outer, section)


def test_an_unknown_key_is_looked_for_in_the_options_of_the_targets():
  message = r"unknown key; did you mean config\.data\.targets\.label\.labels\?"
  with user_error(message):
    data = {"train": "a.tsv", "labels": ("bad", "good")}
    settings.from_dict(tasks.LABELLED["classification"], data, "config.data")
