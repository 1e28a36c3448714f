import pytest

from bert_jax.aot import scaling
from bert_jax.aot.analysis import Analysis

FOUND = Analysis(
  name="bert_base, length 128",
  topology="v5e:4x4",
  chips=16,
  mesh={"data": 16},
  rows=32 * 16,
  length=128,
  fits=True,
  hbm_capacity=16 << 30,
  hbm={},
  largest=(),
  flops=1e12,
  collectives={"all-reduce": 400_000_000},
  seconds=0.03,
)


def test_communication_approaches_twice_the_gradients():
  times = [scaling.seconds(FOUND, chips) for chips in (1, 2, 4, 4096)]
  assert times[0] == 0.03
  # A v5e's links: 1,600 Gbit/s, which is 0.002 s for 400 MB.
  assert times[1:] == pytest.approx([0.032, 0.033, 0.034], abs=1e-5)
