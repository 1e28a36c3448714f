import sys

import pytest

from benchmarks import cpu, gpu, runner
from benchmarks.peers import Job


def test_a_failing_side_is_told_and_not_tried_again():
  entries = {
    name: runner.Entry(Job(module="nobody", kind="training"), None, python)
    for name, python in (("fails", sys.executable), ("fails too", "false"))
  }
  found = runner.alternate(entries, 3)
  assert "nobody" in found["fails"]["runs"][0]["error"]
  assert [len(side["runs"]) for side in found.values()] == [1, 1]
  assert runner.rates({**found["fails"], "tokens": 5}) == []


def test_sides_take_turns(monkeypatch):
  done = []

  def run(entry):
    done.append(entry.job.module)
    return {"seconds": len(done)}

  monkeypatch.setattr(runner, "run", run)
  entries = {n: runner.Entry(Job(module=n, kind="peak"), None) for n in "ab"}
  found = runner.alternate(entries, 2)
  assert done == ["a", "b", "a", "b"]
  assert runner.seconds(found["b"]) == [2, 4]


def side(tokens, *seconds):
  return {"tokens": tokens, "runs": [{"seconds": x} for x in seconds]}


def test_ratios_are_of_the_same_round():
  ours, theirs = side(100, 1.0, 2.0, 4.0), side(50, 1.0, 1.0, 1.0)
  found = runner.ratios(ours, theirs)
  assert found == [2.0, 1.0, 0.5]
  assert runner.spread(found, ".2f") == "1.00 (0.50-2.00)"


def test_the_verdict_is_on_the_fastest_peer_of_our_precision():
  case = {
    "name": "training-128",
    "sides": {
      "ours": side(100, 1.0),
      "torch": side(100, 4.0),
      "flax": side(100, 2.0),
      "torch-bf16": side(100, 0.1),
      "keras-hub": {"tokens": 100, "runs": [{"error": "no memory"}]},
    },
  }
  told = cpu.verdict(case)
  assert "2.00 (2.00-2.00) times the fastest peer, flax" in told


def test_without_a_gpu_one_line_tells(monkeypatch):
  monkeypatch.setattr(gpu, "device", lambda: None)
  monkeypatch.setattr(sys, "argv", ["gpu", "--peer-python", sys.executable])
  with pytest.raises(SystemExit) as ended:
    gpu.main()
  assert (
    ended.value.code == "error: there is no GPU that jax can use; see --help"
  )
