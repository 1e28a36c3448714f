"""Fixtures of the tests of data."""

import tempfile

import pytest


@pytest.fixture(autouse=True, scope="package")
def temporary_folder(tmp_path_factory):
  """Keeps the temporary folders of TFDS, which it does not remove, in ours."""
  folder = str(tmp_path_factory.mktemp("temporary"))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tempfile, "tempdir", folder)
    patch.setenv("TMPDIR", folder)
    yield
