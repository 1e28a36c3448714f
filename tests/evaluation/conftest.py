import pytest

from tests import compiling


@pytest.fixture(autouse=True, scope="package")
def compile_cheaply(tmp_path_factory):
  with compiling.cheaply(tmp_path_factory.getbasetemp() / "compiled"):
    yield
