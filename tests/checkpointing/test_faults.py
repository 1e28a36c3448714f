import contextlib
import dataclasses
import pathlib
import resource
import signal
import subprocess
import sys

import jax.numpy as jnp
import pytest

from bert_jax import settings
from bert_jax.checkpointing import manifest, parameters
from bert_jax.checkpointing.checkpoints import Checkpoints
from tests.checkpointing.test_checkpoints import (
  make_state,
  restore,
  save,
  shapes,
)
from tests.errors import user_error


def _largest(folder):
  return max(folder.glob("state/**/d/*"), key=lambda path: path.stat().st_size)


def _flip(path):
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(data)


def _cut(path):
  path.write_bytes(path.read_bytes()[:-1])


DAMAGES = {
  "flipped bit": lambda folder: _flip(_largest(folder)),
  "flipped bit in metadata": lambda folder: _flip(folder / "contents.json"),
  "cut file": lambda folder: _cut(_largest(folder)),
  "deleted file": lambda folder: _largest(folder).unlink(),
  "extra file": lambda folder: (folder / "state" / "more").touch(),
  "no manifest": lambda folder: (folder / manifest.NAME).unlink(),
  "empty manifest": lambda folder: (folder / manifest.NAME).write_text(""),
  "junk": lambda folder: (folder / manifest.NAME).write_bytes(b"\xff\x00{"),
  "other JSON": lambda folder: (folder / manifest.NAME).write_text("[1]"),
  "other JSON 2": lambda f: (f / manifest.NAME).write_text('{"files": [1]}'),
  "deep JSON": lambda f: (f / manifest.NAME).write_text("[" * 100_000),
}


def _copy(source, folder):
  subprocess.run(["cp", "-r", f"{source}/.", str(folder)], check=True)


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_a_damaged_step_is_passed_over_loudly(
  tmp_path, two_steps, damage, errors
):
  _copy(two_steps, tmp_path)
  DAMAGES[damage](tmp_path / "2")
  assert restore(tmp_path) == 1
  assert f"{tmp_path / '2'} is skipped: " in errors.text


def test_a_flipped_bit_is_found_in_any_file(tmp_path, two_steps):
  _copy(two_steps, tmp_path)
  files = [path for path in (tmp_path / "2").rglob("*") if path.is_file()]
  assert len(files) > 5
  for path in files:
    whole = path.read_bytes()
    _flip(path)
    assert manifest.verify(tmp_path / "2") is not None, path
    path.write_bytes(whole)
  assert manifest.verify(tmp_path / "2") is None


def test_only_damaged_steps_are_no_reason_to_begin_anew(tmp_path, two_steps):
  _copy(two_steps, tmp_path)
  for step in "12":
    _flip(_largest(tmp_path / step))
  with user_error("all checkpoints are damaged"):
    restore(tmp_path)
  params = shapes(make_state(0).params)
  with user_error("all checkpoints are damaged"):
    parameters.restore_params(tmp_path, params)


def test_leftovers_of_a_killed_save(tmp_path):
  (tmp_path / "11").mkdir()
  (tmp_path / "12" / "state.orbax-checkpoint-tmp" / "d").mkdir(parents=True)
  (tmp_path / "notes").mkdir()
  assert restore(tmp_path) is None
  assert save(tmp_path, 10) == [10]
  assert restore(tmp_path) == 10
  assert save(tmp_path, 11, 13) == [10, 11, 13]
  assert restore(tmp_path) == 13
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {"10", "11", "13", "notes"}


def test_steps_that_were_passed_over_do_not_push_out_good_ones(tmp_path):
  save(tmp_path, 1, 5, 6)
  for step in "56":
    _flip(_largest(tmp_path / step))
  assert restore(tmp_path) == 1
  save(tmp_path, 2, keep=1)
  assert restore(tmp_path) == 2
  save(tmp_path, 5, keep=2)
  assert restore(tmp_path) == 5


def test_a_step_that_is_saved_is_not_saved_again(tmp_path, two_steps):
  _copy(two_steps, tmp_path)
  with Checkpoints(tmp_path) as checkpoints:
    checkpoints.save(dataclasses.replace(make_state(9), step=jnp.int32(2)), {})
  assert restore(tmp_path) == 2


@contextlib.contextmanager
def _full_disk(room):
  """No file can grow beyond `room` bytes: writes fail as on a full disk."""
  soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
  try:
    yield
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# Orbax's threads may report to an event loop that is already closed.
LATE_THREAD = "ignore::pytest.PytestUnraisableExceptionWarning"


@pytest.mark.filterwarnings(LATE_THREAD)
@pytest.mark.parametrize("surfaces_at", ["save", "wait", "close", "exit"])
def test_a_failed_save_is_an_error_and_spares_the_last_one(
  tmp_path, surfaces_at
):
  save(tmp_path, 1)
  match = rf"the checkpoint of step 2 could not be written to {tmp_path}"
  checkpoints = Checkpoints(tmp_path)
  with user_error(match) as caught:
    with _full_disk(60_000):
      checkpoints.save(make_state(2, rows=10_000), {})
      with contextlib.suppress(settings.UserError):
        checkpoints._pending.result()
    if surfaces_at == "save":
      checkpoints.save(make_state(3), {})
    elif surfaces_at == "wait":
      checkpoints.wait()
    elif surfaces_at == "close":
      checkpoints.close()
    else:
      with checkpoints:
        pass
  assert str(caught.value).endswith(": File too large")
  checkpoints.close()
  assert restore(tmp_path) == 1
  assert save(tmp_path, 2) == [1, 2]


@pytest.mark.filterwarnings(LATE_THREAD)
def test_a_failed_save_does_not_hide_what_ended_the_run(tmp_path, errors):
  with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path) as checkpoints:
    with _full_disk(60_000):
      checkpoints.save(make_state(2, rows=10_000), {})
      with contextlib.suppress(settings.UserError):
        checkpoints._pending.result()
    raise KeyboardInterrupt
  assert "the checkpoint of step 2 could not be written" in errors.text


SAVE_FOR_EVER = """
import pathlib, sys
from tests.checkpointing import test_checkpoints as tests

folder = pathlib.Path(sys.argv[1])
step = tests.restore(folder) or 0
with tests.Checkpoints(folder) as checkpoints:
  while True:
    step += 1
    checkpoints.save(
      tests.make_state(step), {"position": {"index": step}}
    )
    # The save of this step began, so the one before is done.
    print(step - 1, flush=True)
"""


def test_a_kill_at_any_time_loses_at_most_the_save_under_way(tmp_path):
  for saves in (2, 5):
    process = subprocess.Popen(
      [sys.executable, "-c", SAVE_FOR_EVER, str(tmp_path)],
      cwd=pathlib.Path(__file__).parents[2],
      stdout=subprocess.PIPE,
      text=True,
    )
    with process:
      done = [int(process.stdout.readline()) for _ in range(saves)][-1]
      process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert restore(tmp_path) >= done
