"""Runs whose folder is in an object store."""

import json
import os
import threading
from concurrent import futures

import fsspec
import numpy as np
import pytest

import bert_jax
from bert_jax.checkpointing import manifest, parameters
from bert_jax.checkpointing.checkpoints import Checkpoints
from bert_jax.cluster import interruption, lock
from bert_jax.settings import UserError
from bert_jax.storage import paths
from bert_jax.training import report, run
from bert_jax.training.logging import read_metrics
from tests import pytrees
from tests.checkpointing.test_checkpoints import as_bytes, make_state, shapes
from tests.errors import user_error
from tests.training import test_loop

STEPS = test_loop.STEPS


@pytest.fixture(autouse=True)
def quick_locks(monkeypatch):
  monkeypatch.setattr(lock, "_SETTLE_SECONDS", 0.05)
  monkeypatch.setattr(lock, "BEAT_SECONDS", 0.1)
  monkeypatch.setattr(lock, "DEAD_SECONDS", 1.0)


def interrupt_at(step, monkeypatch):
  """Runs that begin now are asked to stop after a step."""

  class Asked:
    def __enter__(self):
      return lambda done: done == step

    def __exit__(self, *_):
      pass

  monkeypatch.setattr(interruption, "watch", Asked)


def test_a_run_that_is_stopped_goes_on_and_ends_as_one_here(
  gs, corpus_folder, finished, monkeypatch
):
  # Of `s3://` in tests/e2e/test_stores.py.
  paths.upload_folder(corpus_folder, f"{gs}/corpus", last="corpus.json")
  recipe = test_loop.make_recipe(f"{gs}/corpus")
  where = paths.as_path(f"{gs}/runs/one")
  with monkeypatch.context() as patch, pytest.raises(interruption.Interrupted):
    interrupt_at(3, patch)
    run.train_recipe(recipe, where)
  kept = manifest.finished_steps(where / "checkpoints")
  assert kept == [2, 3]
  run.train_recipe(recipe, str(where))
  pytrees.assert_equal(pytrees.load(finished[0]), pytrees.load(where))
  here, there = read_metrics(finished[0]), read_metrics(where)
  timed = {
    "seconds",
    "goodput",
    "steps_per_second",
    "non_padding_tokens_per_second",
  }
  for row in (*here, *there):
    for name in timed & row.keys():
      del row[name]
  assert [r for r in there if r["split"] == "train"] == [
    r for r in here if r["split"] == "train"
  ]
  names = {name.split("/")[0] for name in paths.list_files(where)}
  assert names == {
    *("bert_jax.json", "metrics.jsonl", "goodput.json", "tokenizer"),
    *("tensorboard", "checkpoints"),
  }
  assert report.report(where)["steps"] == STEPS
  assert paths.exists(where / "results.json")
  assert paths.exists(where / "curves.png")
  with user_error(rf"{where} has a run with another"):
    run.train_recipe(test_loop.make_recipe(f"{gs}/corpus", steps=7), where)


def test_a_model_goes_to_a_store_and_comes_back(s3, finished):
  predictor = bert_jax.load(finished[0])
  texts = ["cat1 [MASK] cat2"]
  for form in ("huggingface", "bert_jax"):
    where = f"{s3}/models/{form}"
    bert_jax.save(predictor, where, form)
    assert bert_jax.load(where)(texts) == predictor(texts)
    with user_error("is not empty"):
      bert_jax.save(predictor, where, form)
  with user_error("no such file or folder"):
    bert_jax.load(f"{s3}/models/none")


def flip(path):
  data = bytearray(paths.read_bytes(path))
  data[len(data) // 2] ^= 1
  paths.write_bytes(path, bytes(data))


def test_checkpoints_are_kept_verified_and_let_go(store, errors):
  folder = f"{store}/checkpoints"
  with Checkpoints(folder, keep=1) as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(make_state(step), {"at": step}, best=step == 1)
    checkpoints.wait()
    assert checkpoints.steps() == [1, 3]
    assert checkpoints.best_step() == 1
    state, metadata = checkpoints.restore(shapes(make_state(0)))
    assert metadata == {"at": 3}
    assert as_bytes(state) == as_bytes(make_state(3))
  files = paths.list_files(f"{folder}/3")
  flip(max(files.values(), key=lambda path: len(paths.read_bytes(path))))
  paths.write_bytes(f"{folder}/2/state/part", b"cut off")
  with Checkpoints(folder) as checkpoints:
    state, _ = checkpoints.restore(shapes(make_state(0)))
  assert as_bytes(state) == as_bytes(make_state(1))
  assert "other contents than were written" in errors.text
  assert "its save was not finished" in errors.text
  wanted = {"encoder": shapes(make_state(0).params["encoder"])}
  params = parameters.restore_params(folder, wanted)
  expected = make_state(1).params["encoder"]["kernel"]
  np.testing.assert_array_equal(params["encoder"]["kernel"], expected)


def test_a_store_that_does_not_answer_is_not_taken_for_damage(s3, monkeypatch):
  folder = paths.as_path(f"{s3}/checkpoints")
  with Checkpoints(folder) as checkpoints:
    checkpoints.save(make_state(1), {})
  monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
  monkeypatch.setitem(fsspec.config.conf["s3"], "skip_instance_cache", 1)
  with user_error(r"127\.0\.0\.1:9"):
    manifest.verify(folder / "1")


def test_a_run_that_is_alive_keeps_others_out(store, capsys):
  folder = paths.as_path(f"{store}/run")
  with (
    lock.held(folder) as check,
    user_error(rf"in use .*process {os.getpid()} on"),
    lock.held(folder),
  ):
    pass
  assert "to see whether that run is alive" in capsys.readouterr().err
  assert not paths.exists(folder / lock.NAME)
  with user_error("its lock was taken away"):
    check()


def leave_lock(folder, **changes):
  entry = {"host": "elsewhere", "machine": "", "process": 1, "run": "x"}
  paths.write_bytes(folder / lock.NAME, json.dumps(entry | changes).encode())


def test_the_folder_of_a_dead_run_is_free_after_a_while(store):
  folder = paths.as_path(f"{store}/run")
  leave_lock(folder)
  with lock.held(folder) as check:
    check()
    # It was asleep, and wakes when another run has taken its folder.
    leave_lock(folder)
    with user_error(r"by another run .*elsewhere"):
      check()
  assert json.loads(paths.read_bytes(folder / lock.NAME))["run"] == "x"


def test_a_run_that_died_on_this_machine_is_not_waited_for(store, monkeypatch):
  monkeypatch.setattr(lock, "DEAD_SECONDS", 1000.0)
  folder = paths.as_path(f"{store}/run")
  gone = 2**22 - 1  # Linux gives no process such a high id by default.
  leave_lock(folder, machine=lock._machine(), process=gone)
  with lock.held(folder) as check:
    check()


def test_of_two_that_begin_at_once_one_goes_on(store, monkeypatch):
  monkeypatch.setattr(lock, "_SETTLE_SECONDS", 1.0)
  # One that sees the other's lock must not take it for dead meanwhile.
  monkeypatch.setattr(lock, "DEAD_SECONDS", 30.0)
  folder = paths.as_path(f"{store}/run")
  both, over, held, refused = threading.Barrier(2), threading.Event(), [], []

  def begin():
    both.wait()
    try:
      with lock.held(folder):
        held.append(1)
        over.wait(10)
    except UserError as error:
      refused.append(error)
      over.set()

  with futures.ThreadPoolExecutor(2) as pool:
    for _ in range(2):
      pool.submit(begin)
  assert (len(held), len(refused)) == (1, 1)
