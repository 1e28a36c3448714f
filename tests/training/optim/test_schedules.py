import jax
import numpy as np
import pytest

from bert_jax import settings
from bert_jax.training.optim import schedules
from bert_jax.training.optim.schedules import ScheduleConfig
from tests.errors import user_error
from tests.training import reference

PEAK, TOTAL = 3e-3, 50


@pytest.mark.parametrize("from_start", [True, False])
@pytest.mark.parametrize("warmup", [0, 1, 12])
@pytest.mark.parametrize("name", sorted(schedules.DECAYS))
def test_every_schedule_equals_its_formula(name, warmup, from_start):
  config = ScheduleConfig(
    name,
    warmup_steps=warmup,
    decay_from_start=from_start,
    end_fraction=0.1,
    power=0.5,
  )
  schedule = jax.jit(schedules.make(config, PEAK, TOTAL))
  wanted = [
    reference.rate(
      name,
      step,
      PEAK,
      TOTAL,
      warmup,
      from_start=from_start,
      end=0.1 * PEAK,
      power=0.5,
    )
    for step in range(TOTAL + 5)
  ]
  got = [schedule(step) for step in range(TOTAL + 5)]
  np.testing.assert_allclose(got, wanted, rtol=2e-6)
  assert got[0].dtype == np.float32


def test_google_decay_is_counted_from_step_0():
  # Worked out by hand from `create_optimizer` of google-research/bert.
  config = ScheduleConfig("linear", warmup_steps=10_000)
  schedule = schedules.make(config, 1e-4, 1_000_000)
  assert schedule(0) == 0
  np.testing.assert_allclose(schedule(9_999), 0.9999e-4, rtol=1e-6)
  np.testing.assert_allclose(schedule(10_000), 0.99e-4, rtol=1e-6)
  np.testing.assert_allclose(schedule(500_000), 0.5e-4, rtol=1e-6)
  np.testing.assert_allclose(schedule(999_999), 1e-10, rtol=0.1)
  assert schedule(1_000_000) == 0


def test_nvidia_lamb_phase_1():
  # lr 6e-3, warm-up 0.2843 of 7,038 steps, polynomial of power 0.5.
  config = ScheduleConfig("polynomial", warmup_fraction=0.2843, power=0.5)
  schedule = schedules.make(config, 6e-3, 7038)
  np.testing.assert_allclose(schedule(1000), 6e-3 * 1000 / 2001, rtol=1e-6)
  np.testing.assert_allclose(schedule(3519), 6e-3 * 0.5**0.5, rtol=1e-6)


def test_decay_steps_end_the_decay_early():
  config = ScheduleConfig(
    warmup_steps=5, decay_steps=20, decay_from_start=False, end_fraction=0.5
  )
  schedule = schedules.make(config, 1.0, 100)
  np.testing.assert_allclose(schedule(5), 1.0)
  np.testing.assert_allclose(schedule(15), 0.75)
  np.testing.assert_allclose([schedule(25), schedule(99)], 0.5)


@pytest.mark.parametrize(
  ("section", "message"),
  [
    ({"name": "lineer"}, "schedule.name: unknown 'lineer'"),
    ({"warmup_steps": -1}, "schedule.warmup_steps"),
    ({"warmup_fraction": 1.0}, "schedule.warmup_fraction"),
    ({"warmup_fraction": float("nan")}, "schedule.warmup_fraction"),
    (
      {"warmup_fraction": 0.1, "warmup_steps": 3},
      "schedule.warmup_fraction: 0.1 and warmup_steps 3",
    ),
    ({"decay_steps": 0}, "schedule.decay_steps"),
    ({"end_fraction": 1.5}, "schedule.end_fraction"),
    ({"name": "exponential"}, "schedule.end_fraction"),
    ({"power": 0.0}, "schedule.power"),
    ({"warmup": 3}, "schedule.warmup: unknown key"),
  ],
)
def test_a_wrong_config_is_named(section, message):
  with user_error(message):
    settings.from_dict(ScheduleConfig, section, "config.optimizer.schedule")


@pytest.mark.parametrize("total", [10, 5, 0])
def test_a_warm_up_that_does_not_fit_the_run_is_an_error(total):
  with user_error(r"warmup_steps|at least 1"):
    schedules.make(ScheduleConfig(warmup_steps=10), 1.0, total)
