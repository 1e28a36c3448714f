import json
import pathlib
import signal

import jax
import numpy as np
import pytest

from bert_jax.checkpointing import manifest, parameters
from bert_jax.checkpointing.checkpoints import Checkpoints
from tests.checkpointing.test_checkpoints import make_state, restore, save
from tests.checkpointing.test_faults import DAMAGES
from tests.commands import python
from tests.errors import user_error


def loaded(folder):
  """The step whose parameters are read."""
  target = jax.eval_shape(lambda: make_state(0).params)
  got = np.asarray(parameters.restore_params(folder, target)["half"])
  return next(
    step
    for step in range(20)
    if np.array_equal(got, make_state(step).params["half"])
  )


def best(folder):
  with Checkpoints(folder) as checkpoints:
    return checkpoints.best_step()


def test_the_best_step_stays_and_is_read_but_the_newest_is_resumed(tmp_path):
  assert save(tmp_path, 1, 2, 3, 4, best=[1, 2], keep=1) == [2, 4]
  assert (loaded(tmp_path), best(tmp_path), restore(tmp_path)) == (2, 2, 4)
  assert save(tmp_path, 5, 6, best=[5], keep=1) == [5, 6]
  assert (loaded(tmp_path), best(tmp_path), restore(tmp_path)) == (5, 5, 6)


def test_the_best_is_kept_besides_the_newest(tmp_path):
  assert save(tmp_path, 1, 2, 3, 4, best=[1], keep=2) == [1, 3, 4]
  assert save(tmp_path, 5, best=[5], keep=2) == [4, 5]


def test_without_a_best_step_the_newest_is_read(tmp_path):
  save(tmp_path, 1, 2, keep=2)
  assert (loaded(tmp_path), best(tmp_path)) == (2, None)


def test_manifests_from_before_there_was_a_best_are_good(tmp_path):
  save(tmp_path, 1, keep=1)
  path = tmp_path / "1" / manifest.NAME
  contents = json.loads(path.read_text())
  path.write_text(json.dumps({"files": contents["files"]}))
  assert (loaded(tmp_path), restore(tmp_path)) == (1, 1)
  assert save(tmp_path, 2, 3, best=[2], keep=1) == [2, 3]


@pytest.mark.parametrize("damage", ["flipped bit", "junk", "deleted file"])
def test_a_damaged_best_step_is_passed_over_loudly(tmp_path, damage, errors):
  save(tmp_path, 1, 2, 3, best=[2], keep=2)
  DAMAGES[damage](tmp_path / "2")
  assert loaded(tmp_path) == 3
  assert str(tmp_path / "2") in errors.text


def test_the_best_before_a_damaged_best_is_better_than_the_newest(tmp_path):
  save(tmp_path, 1, 2, 3, best=[1, 2], keep=3)
  DAMAGES["flipped bit"](tmp_path / "2")
  assert loaded(tmp_path) == 1


def test_a_mark_that_is_damaged_is_damage(tmp_path):
  save(tmp_path, 1, best=[1], keep=1)
  path = tmp_path / "1" / manifest.NAME
  whole = path.read_bytes()
  path.write_bytes(whole.replace(b'"best"', b'"bess"'))
  assert manifest.verify(tmp_path / "1") is not None


def test_a_step_that_is_saved_already_can_become_the_best(tmp_path):
  save(tmp_path, 1, 2, keep=2)
  assert save(tmp_path, 2, best=[2], keep=2) == [1, 2]
  assert best(tmp_path) == 2
  assert restore(tmp_path) == 2  # Saved with its own contents, as before.
  assert save(tmp_path, 3, 4, keep=1) == [2, 4]
  # It does not lose its mark when it is saved again.
  save(tmp_path, 2, keep=1)
  assert best(tmp_path) == 2


def test_a_mark_that_cannot_be_written_is_an_error(tmp_path, monkeypatch):
  save(tmp_path, 1, keep=1)

  def full(self, target):
    raise OSError(28, "No space left on device")

  monkeypatch.setattr(pathlib.Path, "replace", full)
  with user_error("1 could not be marked as the"):
    save(tmp_path, 1, best=[1], keep=1)
  monkeypatch.undo()
  assert (best(tmp_path), restore(tmp_path)) == (None, 1)


KILLED = """
import os, pathlib, signal, sys
from bert_jax.checkpointing.checkpoints import Checkpoints
from tests.checkpointing import test_best_checkpoint as tests

folder, moment = pathlib.Path(sys.argv[1]), sys.argv[2]
tests.save(folder, 1, best=[1], keep=1)

def die(*_):
  os.kill(os.getpid(), signal.SIGKILL)

if moment == "before the mark":
  pathlib.Path.replace = die
else:
  Checkpoints._prune = die
tests.save(folder, 2, best=[2], keep=1)
"""


@pytest.mark.parametrize(
  ("moment", "wanted"), [("before the mark", 1), ("before the old one goes", 2)]
)
def test_a_kill_leaves_the_old_best_or_the_new(tmp_path, moment, wanted):
  process = python(KILLED, tmp_path, moment, check=False)
  assert process.returncode == -signal.SIGKILL
  assert best(tmp_path) == loaded(tmp_path) == restore(tmp_path) == wanted
  assert save(tmp_path, 3, keep=1) == [wanted, 3]
  assert loaded(tmp_path) == wanted
