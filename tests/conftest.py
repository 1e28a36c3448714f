import gc
import itertools
import logging
import tempfile

import hypothesis
import pytest

from tests import compiling, gcs_server, shapes

shapes.install()

# The same examples in every run, whatever the speed of the machine.
hypothesis.settings.register_profile(
  "tests", deadline=None, derandomize=True, database=None
)
hypothesis.settings.load_profile("tests")

_NUMBERS = itertools.count()

# Tracing makes millions of small objects: with Python's default of 700 the
# garbage collector takes a tenth of the time.
gc.set_threshold(100_000, 20, 20)


# Their files take longest.
_FIRST = ("tests/e2e/", "tests/training/", "tests/cluster/", "tests/tasks/")


def pytest_collection_modifyitems(items):
  """Long files run first, so that the xdist workers end together."""
  items.sort(key=lambda item: not item.nodeid.startswith(_FIRST))


@pytest.fixture(scope="session", autouse=True)
def compile_cheaply(request, tmp_path_factory):
  with compiling.cheaply(compiling.cache_folder(request, tmp_path_factory)):
    yield


@pytest.fixture(autouse=True, scope="session")
def temporary_folder(tmp_path_factory):
  """Temporary files that a library does not remove go with pytest's."""
  folder = str(tmp_path_factory.mktemp("temporary"))
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tempfile, "tempdir", folder)
    patch.setenv("TMPDIR", folder)
    yield


@pytest.fixture
def errors(caplog):
  """What absl logs, which does not reach the root logger."""
  logger = logging.getLogger("absl")
  logger.addHandler(caplog.handler)
  yield caplog
  logger.removeHandler(caplog.handler)


@pytest.fixture
def clock(monkeypatch):
  """The time of `GoodputRecorder`, set by hand."""
  now = [1000.0]
  monkeypatch.setattr("bert_jax.cluster.goodput.time.time", lambda: now[0])
  return now


@pytest.fixture(scope="session")
def s3_server():
  """A store on this machine that answers as Amazon's does."""
  pytest.importorskip("s3fs")
  server_lib = pytest.importorskip("moto.server")
  logging.getLogger("werkzeug").setLevel(logging.ERROR)
  server = server_lib.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
  server.start()
  host, port = server.get_host_and_port()
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    patch.setenv("AWS_ACCESS_KEY_ID", "someone")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield server
  server.stop()


@pytest.fixture(scope="session")
def gcs():
  """A store on this machine that answers as Google's does."""
  import fsspec.config

  with gcs_server.running() as server, pytest.MonkeyPatch.context() as patch:
    for name, value in gcs_server.variables(server).items():
      patch.setenv(name, value)
    pytest.importorskip("gcsfs")  # It reads some of them when it is imported.
    # What FSSPEC_GCS_TOKEN says was read when fsspec was imported.
    options = {**fsspec.config.conf.get("gcs", {}), "token": "anon"}
    patch.setitem(fsspec.config.conf, "gcs", options)
    yield server


@pytest.fixture
def gs(gcs, tmp_path, monkeypatch):
  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  name = f"bucket-{next(_NUMBERS)}"
  gcs.buckets[name] = {}
  return f"gs://{name}"


@pytest.fixture(params=["s3", "gs"])
def store(request):
  """The address of an empty bucket, of each kind of store."""
  return request.getfixturevalue(request.param)


@pytest.fixture
def s3(s3_server, tmp_path, monkeypatch):
  """The address of an empty bucket; copies of what is in it are new too."""
  import fsspec

  monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
  name = f"bucket-{next(_NUMBERS)}"
  fsspec.filesystem("s3").mkdir(name)
  return f"s3://{name}"
