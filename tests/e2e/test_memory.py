import sys

import pytest

from tests.commands import python

SET_UP = "from launch import process; process.set_up()"
# How many pages the kernel gives, once more than were needed before.
FAULTS = """
{first}
import resource
import threading

def faults():
  before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
  bytearray(b"x") * (64 << 20)
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def work():
  print(faults(), faults())

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def faults(first, **variables):
  """Page faults of a thread that takes 64 MiB, and does so again."""
  env = {"PATH": "/usr/bin:/bin", **variables}
  ran = python(FAULTS.format(first=first), env=env)
  return [int(n) for n in ran.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_commands_keep_the_memory_that_they_freed():
  _, again = faults("")
  assert again > 20
  _, again = faults(SET_UP)
  assert again == 0
  for told in ({"MALLOC_ARENA_MAX": "2"}, {"JAX_PLATFORMS": "tpu"}):
    _, again = faults(SET_UP, **told)
    assert again > 20


@pytest.mark.parametrize(
  ("told", "expected"), [({}, "cpu"), ({"JAX_PLATFORMS": "tpu"}, "tpu")]
)
def test_no_tpu_is_looked_for_where_there_is_none(tmp_path, told, expected):
  (tmp_path / "libtpu.py").touch()
  env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path), **told}
  devices = "process._TPUS, process._GPUS = (), ()"
  show = "import os; print(os.environ['JAX_PLATFORMS'])"
  found = python(
    f"from launch import process; {devices}; process.set_up(); {show}", env=env
  )
  assert found.stdout.split() == [expected]


def test_garbage_is_collected_once_a_command_runs():
  ran = python(
    f"{SET_UP}; import gc; from launch import report;"
    " report.main(['--help']); print(gc.isenabled())"
  )
  assert ran.stdout.endswith("True\n")
