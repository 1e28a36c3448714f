import logging

import pytest


@pytest.fixture
def errors(caplog):
  """What absl logs, which does not reach the root logger."""
  logger = logging.getLogger("absl")
  logger.addHandler(caplog.handler)
  yield caplog
  logger.removeHandler(caplog.handler)
