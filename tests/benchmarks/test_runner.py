import sys

import pytest

from benchmarks import cpu, gpu, runner
from benchmarks.peers import Job


def test_an_implementation_that_fails_is_not_run_again():
  entries = {
    name: runner.Entry(Job(module="nobody", kind="training"), None, python)
    for name, python in (("fails", sys.executable), ("fails too", "false"))
  }
  found = runner.alternate(entries, 3)
  assert "nobody" in found["fails"]["runs"][0]["error"]
  assert [len(result["runs"]) for result in found.values()] == [1, 1]
  assert runner.rates({**found["fails"], "tokens": 5}) == []


def test_implementations_run_in_turn(monkeypatch):
  done = []

  def run(entry):
    done.append(entry.job.module)
    return {"seconds": len(done)}

  monkeypatch.setattr(runner, "run", run)
  entries = {n: runner.Entry(Job(module=n, kind="peak"), None) for n in "ab"}
  found = runner.alternate(entries, 2)
  assert done == ["a", "b", "a", "b"]
  assert runner.seconds(found["b"]) == [2, 4]


def result(tokens, *seconds):
  return {"tokens": tokens, "runs": [{"seconds": x} for x in seconds]}


def test_ratios_are_of_the_same_round():
  ours, theirs = result(100, 1.0, 2.0, 4.0), result(50, 1.0, 1.0, 1.0)
  found = runner.ratios(ours, theirs)
  assert found == [2.0, 1.0, 0.5]
  assert runner.spread(found, ".2f") == "1.00 (0.50-2.00)"


def test_the_verdict_is_on_the_fastest_peer_of_our_precision():
  case = {
    "name": "training-128",
    "results": {
      "ours": result(100, 1.0),
      "torch": result(100, 4.0),
      "flax": result(100, 2.0),
      "torch-bf16": result(100, 0.1),
      "keras-hub": {"tokens": 100, "runs": [{"error": "no memory"}]},
    },
  }
  verdict = cpu.verdict(case)
  assert "2.00 (2.00-2.00) times the fastest peer, flax" in verdict


def test_without_a_gpu_there_is_a_message(monkeypatch):
  monkeypatch.setattr(gpu, "device", lambda: None)
  monkeypatch.setattr(sys, "argv", ["gpu", "--peer_python", sys.executable])
  with pytest.raises(SystemExit) as ended:
    gpu.main()
  assert ended.value.code == "error: JAX finds no GPU; see --help"
