"""Temporary files of TFDS, which it does not remove, go with pytest's."""

import tempfile

import pytest


@pytest.fixture(autouse=True, scope="package")
def temporary_folder(tmp_path_factory):
  folder = str(tmp_path_factory.mktemp("temporary"))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tempfile, "tempdir", folder)
    patch.setenv("TMPDIR", folder)
    yield
