import asyncio
import itertools
import json
import threading

import numpy as np
import pytest

from bert_jax.serving import opening, versions
from bert_jax.serving.errors import ServingError
from bert_jax.serving.metrics import Metrics
from bert_jax.serving.registry import Registry
from bert_jax.settings import UserError
from bert_jax.tasks import TASKS
from tests import small
from tests.serving import fakes

BIAS = {"1": 0.0, "2": 8.0, "3": 16.0, "10": 80.0}


class Opener:
  """Opens fakes that are described by a file of their folder."""

  def __init__(self):
    self.gate = threading.Event()
    self.gate.set()

  def open(self, where):
    self.gate.wait()
    with open(f"{where}/manifest.json") as file:
      given = json.load(file)
    if "error" in given:
      raise UserError(given["error"])
    return fakes.predictor(**given), "onnx"


class Updating:
  """A registry over a folder of versions."""

  def __init__(self, folder, *first, shared=None, **changes):
    self.folder = folder
    for version in first:
      self.add(version)
    changes.setdefault("poll_interval", 3600.0)
    self.settings = fakes.settings(models={"m": str(folder)}, **changes)
    self.metrics, self.opener = Metrics(), Opener()
    self.registry = Registry(
      self.settings, self.metrics, self.opener, shared=shared
    )

  def add(self, version, **given):
    made = self.folder / version
    made.mkdir(parents=True)
    given = given or {"bias": BIAS[version]}
    partial = made / "partial"
    partial.write_text(json.dumps(given))
    partial.replace(made / "manifest.json")

  async def __aenter__(self):
    await self.registry.start()
    return self

  async def __aexit__(self, *_):
    self.opener.gate.set()
    await self.registry.stop(10)

  async def look(self):
    """What the registry does at intervals."""
    self.registry._read_state()
    await self.registry._reconcile(self.registry._models["m"])

  @property
  def active(self):
    return self.registry.get("m").version

  @property
  def status(self):
    return self.registry.status()["m"]

  def updates(self, result):
    name = "bert_jax_model_updates_total"
    labels = {"model": "m", "result": result}
    return self.metrics._own.get_sample_value(name, labels)


def run(scenario):
  asyncio.run(asyncio.wait_for(scenario, 60))


def test_the_newest_version_takes_the_traffic(tmp_path):
  async def scenario():
    async with Updating(tmp_path, "1", "2") as at:
      assert at.active == "2" and at.registry.ready
      at.add("10")
      await at.look()
      assert at.active == "10"
      # Incomplete, or none.
      (tmp_path / "11").mkdir()
      (tmp_path / "latest").mkdir()
      await at.look()
      assert at.active == "10" and at.updates("loaded") == 2
      info = at.metrics.render().decode()
      assert 'model_info{engine="onnx",model="m",version="10"} 1.0' in info
      assert 'version="2"' not in info

  run(scenario())


def test_no_request_is_lost_and_answers_change_once(tmp_path):
  async def scenario():
    async with Updating(tmp_path, "1") as at:
      stop, seen = asyncio.Event(), []

      async def client():
        while not stop.is_set():
          served = at.registry.get()
          (logits,) = await served.outputs(["the array"], "classifier")
          seen.append((served.version, round(float(logits.mean()) / 8)))

      clients = [asyncio.create_task(client()) for _ in range(4)]
      for version in ("2", "3"):
        at.add(version)
        at.opener.gate.clear()
        look = asyncio.create_task(at.look())
        before = len(seen)
        while len(seen) < before + 20:  # It loads, and the old one answers.
          await asyncio.sleep(0)
        at.opener.gate.set()
        await look
      before = len(seen)
      while len(seen) < before + 20:
        await asyncio.sleep(0)
      stop.set()
      await asyncio.gather(*clients)
      return seen

  seen = asyncio.run(scenario())
  assert {version: str(value + 1) for version, value in seen} == {
    "1": "1",
    "2": "2",
    "3": "3",
  }
  order = [version for version, _ in seen]
  # The four clients that an update found at work end on the old version.
  assert sum(a > b for a, b in itertools.pairwise(order)) <= 2 * 4


@pytest.mark.parametrize(
  "given, reason",
  [
    ({"error": "it is damaged"}, "it is damaged"),
    ({"bias": float("nan")}, "not finite"),
    ({"labels": ["a", "b", "c"]}, "allow_changed_outputs"),
  ],
)
def test_a_bad_version_is_refused_and_the_old_one_stays(
  tmp_path, given, reason
):
  async def scenario():
    async with Updating(tmp_path, "1") as at:
      at.add("2", **given)
      await at.look()
      await at.look()
      assert at.active == "1" and at.registry.ready
      assert reason in at.status["refused"]["2"]
      assert at.updates("refused") == 1
      # Mended in place.
      at.add("3")
      await at.look()
      assert at.active == "3"

  run(scenario())


def test_changed_outputs_are_accepted_where_that_is_asked_for(tmp_path):
  async def scenario():
    at = Updating(tmp_path, "1", allow_changed_outputs=True)
    async with at:
      at.add("2", labels=["a", "b"])
      await at.look()
      assert at.active == "2"

  run(scenario())


def test_canary_records_of_the_folder_are_tried(tmp_path):
  async def scenario():
    async with Updating(tmp_path, "1") as at:
      (tmp_path / "canary.jsonl").write_text('{"text": 3}\n')
      at.add("2")
      await at.look()
      assert "'text'" in at.status["refused"]["2"]

  run(scenario())


def test_a_roll_back_lasts_until_a_newer_version(tmp_path):
  async def scenario():
    async with Updating(tmp_path, "1", "2", "3") as at:
      await at.registry.roll_back("m")
      assert at.active == "2" and at.updates("rolled_back") == 1
      await at.registry.roll_back("m", "1")
      await at.look()
      assert at.active == "1" and at.status["excluded"] == ["2", "3"]
      await at.registry.roll_back("m", "2")
      assert at.active == "2" and at.status["excluded"] == ["3"]
      at.add("10")
      await at.look()
      assert at.active == "10"
      for version, code in (("7", "not_found"), (None, None)):
        try:
          await at.registry.roll_back("m", version)
        except ServingError as error:
          assert error.code == code
      assert at.active == "2"  # The one before that was not rolled back.

  run(scenario())


def test_a_canary_gets_its_share_and_is_promoted(tmp_path):
  async def scenario():
    async with Updating(tmp_path, "1", canary_weight=0.3) as at:
      at.add("2")
      await at.look()
      assert at.active in "12" and at.status["canary"]["weight"] == 0.3
      chosen = [at.registry.get().version for _ in range(1000)]
      assert 200 < chosen.count("2") < 400
      assert at.registry.get("m", "2").version == "2"
      await at.registry.set_canary("m", "2", 0.5)
      assert at.status["canary"]["weight"] == 0.5
      await at.registry.set_canary("m", "2", 0)
      await at.look()
      assert at.status["canary"] is None and at.active == "1"
      await at.registry.set_canary("m", "2", 1)
      await at.look()
      assert at.status["canary"] is None and at.active == "2"
      assert at.updates("loaded") == 3

  run(scenario())


def test_another_process_takes_over_what_was_asked(tmp_path):
  async def scenario():
    shared = tmp_path / "shared"
    shared.mkdir()
    folder = tmp_path / "versions"
    one = Updating(folder, "1", "2", shared=shared)
    async with one, Updating(folder, shared=shared) as other:
      await one.registry.roll_back("m")
      await other.look()
      assert one.active == other.active == "1"
      # A process that starts later, too.
      async with Updating(folder, shared=shared) as late:
        assert late.active == "1"

  run(scenario())


def test_a_model_without_a_version_is_not_ready(tmp_path):
  async def scenario():
    async with Updating(tmp_path) as at:
      assert not at.registry.ready and at.registry.live
      with pytest.raises(ServingError, match="not loaded yet") as error:
        at.registry.get()
      assert error.value.status == 503
      at.add("1")
      await at.look()
      assert at.registry.ready
      with pytest.raises(ServingError, match="unknown; known: m"):
        at.registry.get("other")
      with pytest.raises(ServingError, match="not loaded; loaded: 1"):
        at.registry.get("m", "9")

  run(scenario())


def test_a_model_that_cannot_be_loaded_is_the_users_mistake(tmp_path):
  async def scenario():
    (tmp_path / "manifest.json").write_text('{"error": "it is damaged"}')
    at = Updating(tmp_path)
    with pytest.raises(UserError, match="it is damaged"):
      await at.registry.start()
    await at.registry.stop(0)

  run(scenario())


def test_the_order_of_versions():
  names = ["1", "2026-02-03", "v9", "v10", "1.2.10", "1.2.9", "20261128T12"]
  assert sorted(names, key=versions.order) == [
    *("1", "1.2.9", "1.2.10", "v9", "v10", "2026-02-03", "20261128T12")
  ]


@pytest.mark.parametrize("name", [*TASKS])
def test_every_task_has_records_to_try(name):
  task = TASKS[name].bind(small.ENCODER, small.tokenizer())
  records = opening.canary_records(task, ())
  assert all(task.preprocess(record, labelled=False) for record in records)
  assert np.all([bool(opening.outputs_of(task))])
