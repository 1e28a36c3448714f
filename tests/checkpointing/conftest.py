import pytest

from tests.checkpointing.test_checkpoints import save


@pytest.fixture(scope="package")
def two_steps(tmp_path_factory):
  folder = tmp_path_factory.mktemp("two_steps")
  save(folder, 1, 2)
  return folder
