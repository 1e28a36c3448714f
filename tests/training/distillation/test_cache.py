"""Outputs of a teacher that are kept on disk."""

import dataclasses
import pickle

import numpy as np
import pytest

from bert_jax.data.grouping import LengthGroupedStream
from bert_jax.data.stream import Stream
from bert_jax.training.distillation import cache
from tests import pytrees
from tests.data.test_loader import Counting
from tests.errors import user_error
from tests.tasks import learnable
from tests.training.distillation.test_objective import fitted

LENGTHS = (8, 16)


def cached(stream, teacher, where, say=print):
  return cache.with_outputs(stream, teacher, str(where), 4, say)


@pytest.fixture(autouse=True)
def few(monkeypatch):
  """Shards of few examples."""
  monkeypatch.setattr(cache, "_SHARD", 4)


class Teacher:
  """Outputs that are functions of the tokens alone."""

  checksum = "one"

  def __init__(self, task):
    self.task, self.rows = task, 0

  def outputs(self, batch):
    self.rows += len(batch.token_ids)
    ids = batch.token_ids.astype(np.float32)
    named = {"teacher/hidden_states": np.stack([ids, -ids], -2)[..., None, :]}
    (name,) = self.task.targets
    outputs = {"tags": np.stack([ids, 2 * ids, 3 * ids], -2)}
    outputs["choice"] = ids.sum(-1, keepdims=True)
    outputs["masked_lm"] = (
      np.repeat(batch.targets["masked_lm/positions"][:, None], 5, 1)
      if name == "masked_lm"
      else None
    )
    return {**named, f"teacher/outputs/{name}": outputs[name]}


def make(name):
  task = fitted(name)
  records = learnable.records(name, 10)
  records[3] = learnable.records(name, 1, seed=5)[0]
  examples = [task.preprocess(x, True, labelled=True)[0] for x in records]
  stream = LengthGroupedStream(examples, task.axes, LENGTHS, 3, seed=0)
  return Teacher(task), stream


@pytest.mark.parametrize("name", ["tagging", "multiple_choice", "generation"])
def test_cached_outputs_are_those_of_the_batch(name, tmp_path):
  teacher, stream = make(name)
  taught = cached(stream, teacher, str(tmp_path))
  assert teacher.rows == 12
  taught = pickle.loads(pickle.dumps(taught))
  for index in range(5):
    plain = stream.batch(index, range(3))
    found = taught.batch(index, range(3))
    targets = {k: x for k, x in found.targets.items() if "teacher" not in k}
    pytrees.assert_equal(dataclasses.replace(found, targets=targets), plain)
    for key, array in teacher.outputs(plain).items():
      np.testing.assert_array_equal(found.targets[key], array, err_msg=key)


def test_a_teacher_computes_once(tmp_path, errors, capsys):
  teacher, stream = make("tagging")
  first = cached(stream, teacher, tmp_path)
  teacher.rows = 0
  again = cached(stream, teacher, tmp_path)
  assert teacher.rows == 0
  pytrees.assert_equal(first.batch(0, range(3)), again.batch(0, range(3)))
  # A damaged or missing shard is computed again, and no other.
  damaged, missing, _ = sorted(tmp_path.glob("*/*.npy"))
  content = bytearray(damaged.read_bytes())
  content[-1] ^= 1
  damaged.write_bytes(content)
  missing.unlink()
  capsys.readouterr()
  again = cached(stream, teacher, tmp_path)
  assert "; 2 of 3 parts are computed now" in capsys.readouterr().out
  assert teacher.rows == 8
  assert "00000.npy is damaged; it is computed again" in errors.text
  pytrees.assert_equal(first.batch(0, range(3)), again.batch(0, range(3)))
  # Another teacher, or other examples, have a folder of their own.
  teacher.checksum = "two"
  cached(stream, teacher, tmp_path)
  assert len([*tmp_path.iterdir()]) == 2


def test_what_cannot_be_cached_is_refused(tmp_path):
  teacher, stream = make("tagging")
  with user_error(
    "config.teacher.cache: only labelled records of one task are"
  ):
    cached(Stream(Counting(4), 2, 0), teacher, tmp_path)
  with user_error("expected a folder on a disk, got gs://bucket/x"):
    cached(stream, teacher, "gs://bucket/x")
  (tmp_path / "file").write_text("")
  with user_error(f"config.teacher.cache: {tmp_path}/file: "):
    cached(stream, teacher, tmp_path / "file")
