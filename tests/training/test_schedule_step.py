import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bert_jax.cluster.goodput import GoodputRecorder
from bert_jax.training.optim import optimizer
from bert_jax.training.optim.optimizer import OptimizerConfig
from bert_jax.training.optim.schedules import ScheduleConfig
from bert_jax.training.run import schedule_step


def test_the_schedule_goes_by_the_time_that_is_trained(clock, tmp_path):
  recorder = GoodputRecorder(tmp_path)
  recorder.step = 3
  for phase, seconds, now in (
    ("starting", 1000, 3),
    ("compiling", 1000, 3),
    ("training", 450, 25),
    ("loading", 90, 30),
    ("evaluating", 180, 40),
    ("saving", 180, 50),
  ):
    recorder.enter(phase)
    clock[0] += seconds
    assert schedule_step(recorder, 0.5, 100) == pytest.approx(now), phase
  # A run that is faster than its schedule goes by its updates.
  recorder.step = 70
  assert schedule_step(recorder, 0.5, 100) == 70
  clock[0] += 5000
  assert schedule_step(recorder, 0.5, 100) == 100


def test_an_optimizer_by_the_clock_has_the_rate_of_that_step():
  config = OptimizerConfig(
    "adamw", 0.5, ScheduleConfig("linear", warmup_steps=2), weight_decay=0.0
  )
  params = {"kernel": jnp.ones(3)}
  gradients = {"kernel": jnp.array([1.0, -2.0, 0.5])}
  counted = optimizer.make(config, 10)
  clocked = optimizer.make(config, 10, clocked=True)
  one, other = counted.init(params), clocked.init(params)
  for step in range(4):
    expected, one = counted.update(gradients, one, params)
    found, other = clocked.update(gradients, other, params, clock=float(step))
    np.testing.assert_allclose(found["kernel"], expected["kernel"], rtol=1e-6)
  late, _ = clocked.update(gradients, other, params, clock=jnp.float32(10.0))
  assert optax.tree.norm(late) == 0
