import json
import time

import pytest

from bert_jax.cluster import watchdog
from bert_jax.cluster.goodput import GoodputRecorder
from bert_jax.cluster.interruption import EXIT_CODE
from tests import compiling
from tests.commands import python

HANGS = """
import pathlib, sys, time
import jax
from bert_jax.cluster import watchdog
from bert_jax.cluster.goodput import GoodputRecorder

jax.process_count = lambda: 3
workdir = pathlib.Path(sys.argv[1])
recorder = GoodputRecorder(workdir)
recorder.step = 11
recorder.enter("training")

def deadlock():
  time.sleep(60)

with watchdog.watch(recorder, workdir, 0.4):
  deadlock()
"""


def report(folder, process, reported=None, **entry):
  (folder / watchdog.FOLDER).mkdir(exist_ok=True)
  reported = reported or time.time() + 1e6
  text = json.dumps({"reported": reported, "since": 0.0, **entry})
  (folder / watchdog.FOLDER / f"{process}.json").write_text(text)


def test_a_process_that_hangs_ends_and_tells_who_is_behind(tmp_path):
  report(tmp_path, 1, step=11, phase="training")
  report(tmp_path, 2, step=11, phase="loading")
  env = compiling.simulated(1)
  done = python(HANGS, tmp_path, env=env, check=False)
  assert done.returncode == EXIT_CODE
  assert "in deadlock" in done.stderr  # The stack.
  last = done.stderr.splitlines()[-1]
  assert last.startswith("error: no progress for 0.4 s")
  assert "process 2 is the furthest behind" in last
  assert "process 1 of 3: training after 11 updates;" in last


@pytest.mark.parametrize(
  ("second", "message"),
  [
    ({"step": 10, "phase": "training"}, "training after 10 updates"),
    ({"step": 99, "phase": "saving", "reported": 5.0}, "99 updates, silent"),
    (None, "has not reported"),
  ],
)
def test_the_one_behind_is_slow_or_silent(
  tmp_path, monkeypatch, capsys, second, message
):
  monkeypatch.setattr(watchdog.jax, "process_count", lambda: 2)
  monkeypatch.setattr(watchdog.faulthandler, "dump_traceback", lambda **_: None)
  monkeypatch.setattr(watchdog.os, "_exit", lambda code: None)
  if second:
    report(tmp_path, 1, **second)
  recorder = GoodputRecorder(tmp_path)
  recorder.step = 11
  watchdog._end(recorder, tmp_path / watchdog.FOLDER, 60.0, 60.0)
  printed = capsys.readouterr().err
  assert "process 1 is the furthest behind" in printed
  assert message in printed


def test_a_run_that_gets_on_is_left_alone(tmp_path, monkeypatch):
  ended = []
  monkeypatch.setattr(watchdog.os, "_exit", ended.append)
  recorder = GoodputRecorder(tmp_path)
  with watchdog.watch(recorder, tmp_path, 1.0):
    for _ in range(12):
      time.sleep(0.1)
      recorder.enter("training")
  assert not ended
