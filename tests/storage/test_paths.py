"""Local paths and paths in object stores, served by local HTTP servers."""

import concurrent.futures
import errno
import os
import pathlib
import sys

import fsspec
import fsspec.config
import pytest

from bert_jax.settings import UserError
from bert_jax.storage import object_stores, paths
from tests.errors import user_error


@pytest.mark.parametrize(
  "where",
  ["http://host/file", "hdfs://host/file", "S3://b/x", "gs:/b/x", "s3:///x"],
)
def test_addresses_that_are_neither_local_nor_of_a_store(where):
  with user_error("expected a local path, gs://BUCKET/"):
    paths.local(where)


@pytest.mark.parametrize("where", ["a/b.txt", "/a:b/c", "~/x", "x:y", "."])
def test_local_paths_stay_as_they_are(where):
  assert not paths.is_remote(where)
  assert paths.local(where) == paths.as_path(where) == pathlib.Path(where)


def test_paths_of_stores_are_joined_as_others_are():
  run = paths.as_path("s3://bucket/a/") / "run"
  assert str(run) == os.fspath(run) == "s3://bucket/a/run"
  assert (run.name, str(run.parent)) == ("run", "s3://bucket/a")
  assert paths.is_remote(run)


def test_a_file_is_copied_once_for_each_of_its_versions(store):
  where = f"{store}/texts/é a.txt"
  paths.write_bytes(where, b"one")
  copy = paths.local(where)
  assert copy.read_bytes() == b"one"
  assert copy.name == "é a.txt"
  written = copy.stat().st_mtime_ns
  assert paths.local(where) == copy
  assert copy.stat().st_mtime_ns == written
  paths.write_bytes(where, b"two")
  assert paths.local(where).read_bytes() == b"two"
  assert copy.read_bytes() == b"one"  # Who has opened it goes on reading it.


def test_a_folder_is_copied_with_all_that_is_in_it(store):
  for name in ("a.txt", "deep/er/b.txt", "empty"):
    paths.write_bytes(
      f"{store}/folder/{name}", name.encode() * (name != "empty")
    )
  paths.write_bytes(f"{store}/folder2/c.txt", b"c")
  copy = paths.local(f"{store}/folder/")
  assert sorted(paths.list_files(copy)) == ["a.txt", "deep/er/b.txt", "empty"]
  assert (copy / "deep/er/b.txt").read_text() == "deep/er/b.txt"
  assert sorted(paths.list_files(f"{store}/folder")) == sorted(
    paths.list_files(copy)
  )
  assert paths.list_names(f"{store}/folder", "directory") == ["deep"]
  assert sorted(paths.list_names(f"{store}/folder")) == ["a.txt", "empty"]


def test_several_may_ask_for_a_copy_at_once(store):
  for number in range(20):
    paths.write_bytes(f"{store}/folder/{number}", bytes(number))
  with concurrent.futures.ThreadPoolExecutor(4) as executor:
    copies = [*executor.map(paths.local, [f"{store}/folder"] * 4)]
  assert len(set(copies)) == 1
  assert len(paths.list_files(copies[0])) == 20


def test_a_copy_that_was_cut_off_is_made_anew(s3, monkeypatch):
  import s3fs

  for number in range(3):
    paths.write_bytes(f"{s3}/folder/{number}", b"x")

  async def full(self, remote, local, **_):
    pathlib.Path(local).write_bytes(b"")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), local)

  with monkeypatch.context() as patch:
    patch.setattr(s3fs.S3FileSystem, "_get_file", full)
    with user_error("No space left"):
      paths.local(f"{s3}/folder")
  copy = paths.local(f"{s3}/folder")
  assert [path.read_bytes() for path in copy.iterdir()] == [b"x"] * 3


def test_names_that_lead_out_of_the_folder_are_refused(s3):
  bucket = s3.removeprefix("s3://")
  store = fsspec.filesystem("s3")
  store.call_s3("put_object", Bucket=bucket, Key="f/../../x", Body=b"x")
  with user_error("is not a valid file name"):
    paths.local(f"{s3}/f")


def test_patterns_name_files(store):
  for name in ("a.txt", "b.txt", "c.md", "d/e.txt"):
    paths.write_bytes(f"{store}/t/{name}", b"x")
  assert paths.find(f"{store}/t/*.txt") == [
    f"{store}/t/a.txt",
    f"{store}/t/b.txt",
  ]
  assert paths.find(f"{store}/t/**/e.*") == [f"{store}/t/d/e.txt"]
  assert paths.find(f"{store}/t/c.md") == [f"{store}/t/c.md"]
  assert paths.find(f"{store}/t") == paths.find(f"{store}/none/*") == []


def test_a_folder_is_put_up_with_its_marker_last(s3, tmp_path, monkeypatch):
  import s3fs

  folder = tmp_path / "folder"
  (folder / "deep").mkdir(parents=True)
  for name in ("a", "deep/b", "marker"):
    (folder / name).write_text("new")
  paths.write_bytes(f"{s3}/folder/marker", b"old")
  paths.write_bytes(f"{s3}/folder/other", b"stays")
  put, order = s3fs.S3FileSystem._put_file, []

  async def listening(self, local, remote, **options):
    there = await self._exists(f"{s3}/folder/marker")
    order.append((pathlib.Path(local).name, there))
    await put(self, local, remote, **options)

  monkeypatch.setattr(s3fs.S3FileSystem, "_put_file", listening)
  paths.upload_folder(folder, f"{s3}/folder", last="marker")
  assert sorted(order[:2]) == [("a", False), ("b", False)]
  assert order[2:] == [("marker", False)]
  found = paths.list_files(f"{s3}/folder")
  assert sorted(found) == ["a", "deep/b", "marker", "other"]
  assert paths.read_bytes(found["deep/b"]) == b"new"


def test_what_is_made_here_is_put_up_only_when_it_is_whole(store, tmp_path):
  with (
    pytest.raises(ZeroDivisionError),
    paths.staged_folder(f"{store}/x") as here,
  ):
    (here / "file").write_text("half")
    raise ZeroDivisionError
  assert not paths.exists(f"{store}/x")
  with paths.staged_folder(f"{store}/x") as here:
    (here / "file").write_text("whole")
  assert paths.read_bytes(f"{store}/x/file") == b"whole"
  assert paths.is_folder(f"{store}/x")
  paths.remove(f"{store}/x")
  paths.remove(f"{store}/x")
  assert not paths.exists(f"{store}/x")
  with paths.staged_folder(tmp_path) as here:
    assert here == tmp_path


@pytest.mark.parametrize("call", [paths.local, paths.read_bytes])
def test_what_is_not_there(store, call):
  missing = f"{store[:5]}no-such-bucket/file"
  for where in (f"{store}/nothing", missing):
    with pytest.raises((UserError, FileNotFoundError)):
      call(where)
  with user_error("no-such-bucket/file: no such bucket"):
    paths.write_bytes(missing, b"")


@pytest.fixture
def environ(monkeypatch):
  """Sets the variables of Amazon's tools, which a new connection reads."""
  object_stores.configure()
  monkeypatch.setitem(fsspec.config.conf["s3"], "skip_instance_cache", True)

  def change(**variables):
    for name in os.environ:
      if name.startswith("AWS_"):
        monkeypatch.delenv(name)
    for name, value in variables.items():
      monkeypatch.setenv(name, value)

  return change


def test_a_store_that_cannot_be_reached_is_told_of_in_one_line(environ):
  pytest.importorskip("s3fs")
  environ(
    AWS_ENDPOINT_URL="http://127.0.0.1:9",
    AWS_ACCESS_KEY_ID="a",
    AWS_SECRET_ACCESS_KEY="b",
  )
  with user_error(r"^s3://bucket/file: .*127\.0\.0\.1:9"):
    paths.local("s3://bucket/file")


def test_without_credentials_it_is_told_how_to_give_them(s3_server, environ):
  environ(
    AWS_ENDPOINT_URL=os.environ["AWS_ENDPOINT_URL"],
    AWS_EC2_METADATA_DISABLED="true",
  )
  with user_error("^s3://bucket/file: .*set AWS_PROFILE, or AWS_ACCESS_KEY_ID"):
    paths.local("s3://bucket/file")


@pytest.mark.parametrize("scheme, extra", [("s3", "s3"), ("gs", "gcs")])
def test_without_the_package_of_a_store_its_extra_is_named(
  scheme, extra, monkeypatch
):
  monkeypatch.setitem(sys.modules, f"{extra}fs", None)
  opened = sys.modules["fsspec.registry"]._registry
  monkeypatch.delitem(opened, scheme, raising=False)
  with user_error(rf"pip install 'bert_jax\[{extra}\]'"):
    paths.local(f"{scheme}://bucket/file")
