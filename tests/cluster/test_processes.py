import pathlib
import subprocess
import sys

import jax
import pytest

from benchmarks import small_runs
from bert_jax.cluster import processes
from bert_jax.cluster.processes import Cluster
from tests import compiling
from tests.errors import user_error

ROOT = pathlib.Path(__file__).parents[2]


def test_two_processes_are_one_run(tmp_path):
  address = small_runs.free_address()
  started = [
    subprocess.Popen(
      [sys.executable, "-m", "tests.cluster.on_two_processes"]
      + [address, str(me), str(tmp_path)],
      env=compiling.simulated(4),
      cwd=ROOT,
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for me in range(2)
  ]
  for process in started:
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0 and "all is well" in out, out


def test_alone_a_process_is_the_whole_run(monkeypatch):
  def initialize(*args, **kwargs):
    raise ValueError("coordinator_address should be defined.")

  monkeypatch.setattr(jax.distributed, "initialize", initialize)
  processes.join(Cluster())
  assert not processes.has_joined()
  assert processes.is_first()
  assert processes.on_first(lambda: "done") == "done"
  processes.exit_alone(3)  # Ends nothing.


@pytest.mark.parametrize(
  ("given", "message"),
  [
    ({"num_processes": 2}, "give all of them"),
    ({"coordinator_address": "host:1", "process_id": 0}, "give all of them"),
    ({"heartbeat_seconds": 0}, "heartbeat_seconds: expected at least 1"),
    (
      {"coordinator_address": "host", "num_processes": 2, "process_id": 0},
      "expected HOST:PORT, got 'host'",
    ),
    (
      {"coordinator_address": "host:1", "num_processes": 2, "process_id": 2},
      "--process_id: expected 0 to 1, got 2",
    ),
  ],
)
def test_flags_that_do_not_fit(given, message):
  with user_error(message):
    Cluster(**given)


def test_only_what_a_peer_left_behind_is_taken_for_a_lost_peer(monkeypatch):
  monkeypatch.setattr(processes, "_joined", True)
  gone = jax.errors.JaxRuntimeError("UNKNOWN: Gloo all-reduce failed: reset")
  full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")
  assert "Gloo all-reduce failed" in processes.lost(gone)
  assert processes.lost(full) is None
  assert processes.lost(ValueError("Gloo")) is None
  other = ValueError("UNKNOWN: Gloo all-reduce failed: reset")
  assert "Gloo all-reduce failed" in processes.lost(other)
  # Orbax's own word for it, and ours.
  late = TimeoutError("Timed out while waiting for a barrier")
  late.__cause__ = gone
  assert "Gloo all-reduce failed" in processes.lost(late)
  assert processes.lost(processes.LostError("gone")) == "gone"
