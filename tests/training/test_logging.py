"""Loggers: the two with services are tested with stand-ins of their modules."""

import sys
import types

import pytest

from bert_jax.training import logging
from bert_jax.training.recipe import Recipe
from tests.errors import user_error


class Wandb(types.ModuleType):
  """Keeps what is logged, by the ids of runs."""

  class Error(Exception):
    pass

  def __init__(self):
    super().__init__("wandb")
    self.runs, self.finished, self.offline = {}, [], False

  def init(self, id, resume, config, **_):
    self.params = config
    if self.offline:
      raise self.Error("no API key; run `wandb login`\nand more")
    assert resume == "allow"
    rows = self.runs.setdefault(id, [])
    return types.SimpleNamespace(
      define_metric=lambda name, step_metric: None,
      log=rows.append,
      finish=lambda: self.finished.append(id),
    )


class Mlflow(types.ModuleType):
  """The same, of MLflow's client."""

  class MlflowException(Exception):
    pass

  def __init__(self):
    super().__init__("mlflow")
    self.runs, self.finished, self.experiments = {}, [], {}
    self.params = {}
    self.entities = types.SimpleNamespace(Metric=lambda *args: args)

  def MlflowClient(self):
    return self

  def get_experiment_by_name(self, name):
    return self.experiments.get(name)

  def create_experiment(self, name):
    self.experiments[name] = types.SimpleNamespace(experiment_id=name)
    return name

  def create_run(self, experiment, run_name):
    self.runs[run_name] = []
    return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_name))

  def log_param(self, run, key, value):
    self.params[key] = value

  def update_run(self, run, status):
    assert run in self.runs
    assert status == "RUNNING"

  def log_batch(self, run, metrics):
    for name, value, _, step in metrics:
      self.runs[run].append({"step": step, name: value})

  def set_terminated(self, run):
    self.finished.append(run)


@pytest.mark.parametrize(
  ("name", "make", "params"),
  [
    ("wandb", Wandb, {"optimizer": {"b1": 0.9}}),
    ("mlflow", Mlflow, {"optimizer/b1": 0.9}),
  ],
)
def test_a_resumed_run_continues_the_same_run_of_a_service(
  tmp_path, monkeypatch, name, make, params
):
  module = make()
  monkeypatch.setitem(sys.modules, name, module)
  for first in (0, 2):
    with logging.open_logger(
      tmp_path, [name], {"optimizer": {"b1": 0.9}}
    ) as logger:
      logger.start(first, 4)
      logger.write(first + 2, "train", {"loss": 0.5})
  assert module.params == params
  (run,) = module.runs
  assert module.runs[run] == [
    {"step": 2, "train/loss": 0.5},
    {"step": 4, "train/loss": 0.5},
  ]
  assert module.finished == [run, run]
  assert [row["step"] for row in logging.read_metrics(tmp_path)] == [2, 4]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_package_is_told_with_the_command(
  tmp_path, monkeypatch, name
):
  monkeypatch.setitem(sys.modules, name, None)
  with user_error() as error:
    logging.open_logger(tmp_path, [name])
  assert str(error.value) == (
    f"config.logging.loggers: {name} is not installed; pip install"
    f" 'bert_jax[{name}]'"
  )


def test_a_service_that_cannot_be_used_is_one_line(tmp_path, monkeypatch):
  module = Wandb()
  module.offline = True
  monkeypatch.setitem(sys.modules, "wandb", module)
  message = r"^config.logging.loggers: wandb: no API key; run `wandb login`$"
  with user_error(message), logging.open_logger(tmp_path, ["wandb"]) as logger:
    logger.start(0, 4)


def test_loggers_are_checked_by_name():
  config = {"batch_size": 1, "steps": 1, "logging": {"loggers": ["wandbb"]}}
  with user_error("'wandbb'; did you mean 'wandb'"):
    Recipe.from_dict(config)
