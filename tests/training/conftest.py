import pytest

from bert_jax.training import run
from tests.training import finetune_runs, test_loop


@pytest.fixture(scope="session")
def home(tmp_path_factory):
  """An encoder, and a run of two epochs whose every step is kept."""
  home = tmp_path_factory.mktemp("finetune_runs")
  finetune_runs.make(home)
  return home


@pytest.fixture(scope="session")
def corpus_folder(tmp_path_factory):
  return test_loop.make_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="session")
def finished(corpus_folder, tmp_path_factory):
  """A run that was never disturbed, and what it measured."""
  folder = tmp_path_factory.mktemp("run") / "finished"
  return folder, run.train_recipe(test_loop.make_recipe(corpus_folder), folder)
