import logging

import pytest

from tests import compiling


@pytest.fixture
def errors(caplog):
  """What absl logs, which does not reach the root logger."""
  logger = logging.getLogger("absl")
  logger.addHandler(caplog.handler)
  yield caplog
  logger.removeHandler(caplog.handler)


@pytest.fixture(autouse=True, scope="package")
def compile_cheaply(tmp_path_factory):
  with compiling.cheaply(tmp_path_factory.getbasetemp() / "compiled"):
    yield
